//! Long lists cut into messages for the Stream RPCs. The whole list is one view, taken before the first message.

use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::Status;

/// Bytes of entries in one message: far below any client's limit, and few enough messages.
const CHUNK_MAX: usize = 1 << 20;

/// The messages of one answer.
pub type Chunks<T> = BoxStream<'static, Result<T, Status>>;

/// The messages that hold `items`; none for an empty list, whose stream just ends.
pub fn stream<I: Message + 'static, T: Send + 'static>(items: Vec<I>, wrap: fn(Vec<I>) -> T) -> Chunks<T> {
    stream::iter(cut(items, CHUNK_MAX).into_iter().map(move |chunk| Ok(wrap(chunk)))).boxed()
}

/// Pieces of at most `max` bytes, each with one item at least.
fn cut<I: Message>(items: Vec<I>, max: usize) -> Vec<Vec<I>> {
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for item in items {
        let size = item.encoded_len();
        if !chunk.is_empty() && bytes + size > max {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += size;
        chunk.push(item);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri_api::v1::Container;

    fn containers(number: usize) -> Vec<Container> {
        (0..number).map(|n| Container { id: format!("{n:064}"), ..Default::default() }).collect()
    }

    #[test]
    fn no_item_is_lost_or_doubled_and_no_chunk_is_too_large() {
        let all = containers(1000);
        let one = all[0].encoded_len();
        let chunks = cut(all.clone(), one * 10);
        assert_eq!(chunks.len(), 100);
        assert_eq!(chunks.concat(), all);
    }

    #[test]
    fn an_item_above_the_bound_travels_alone() {
        assert_eq!(cut(containers(3), 1).len(), 3);
        assert!(cut(containers(0), 1).is_empty());
    }

    #[tokio::test]
    async fn ten_thousand_containers_fit_their_messages() {
        let messages: Vec<_> =
            stream(containers(50_000), |containers| cri_api::v1::StreamContainersResponse { containers })
                .collect()
                .await;
        assert!(messages.len() > 1);
        let mut seen = 0;
        for message in messages {
            let message = message.expect("no error");
            assert!(message.encoded_len() < crate::call::MESSAGE_MAX);
            seen += message.containers.len();
        }
        assert_eq!(seen, 50_000);
    }
}
