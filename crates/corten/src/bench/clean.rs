//! Removes every pod of the benchmark, those of an earlier run that was killed as well.

use super::Error;
use super::target::Target;
use super::work::LABEL;
use std::time::Duration;

/// A call that was given up may still make its pod, and a runtime may refuse to remove what it is
/// starting, so that one look is not enough.
const LOOKS: usize = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// Stops and removes until a runtime has no such pod, twice in a row. Tells the last refusal if it never has.
pub async fn all(targets: &[Target]) -> Result<(), Error> {
    for target in targets {
        let failed = target.failed("clean up");
        let (mut quiet, mut refused) = (0, None);
        for _ in 0..LOOKS {
            let pods = target.client.pods_with_label(LABEL.0, LABEL.1).await.map_err(&failed)?;
            quiet = if pods.is_empty() { quiet + 1 } else { 0 };
            if quiet == 2 {
                break;
            }
            let endings = pods.iter().map(|pod| async {
                target.client.stop_pod(&pod.id).await?;
                target.client.remove_pod(&pod.id).await
            });
            let ended = futures_util::future::join_all(endings).await;
            refused = ended.into_iter().find_map(Result::err).or(refused);
            tokio::time::sleep(PAUSE).await;
        }
        if quiet < 2
            && let Some(source) = refused
        {
            return Err(failed(source));
        }
    }
    Ok(())
}
