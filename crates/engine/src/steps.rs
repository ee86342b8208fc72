//! Many-step work as one visible list of named steps, each with its undo.
//!
//! A step that fails undoes itself and the ones before it, last first. Undos never fail the caller: what they
//! could not do is logged and left recorded, for the reconciler to try again.

use crate::api::StepTime;
use futures_util::future::BoxFuture;
use std::time::Instant;
use types::Result;

/// One step on a context `C`.
pub(crate) struct Step<C> {
    /// As shown to the user.
    pub name: &'static str,
    /// Does it.
    pub act: for<'a> fn(&'a mut C) -> BoxFuture<'a, Result<()>>,
    /// Takes it back, also where it was done only half. Doing so twice is harmless.
    pub undo: for<'a> fn(&'a mut C) -> BoxFuture<'a, Result<()>>,
}

/// `step!("name", Context::act, Context::undo)`.
macro_rules! step {
    ($name:literal, $act:path, $undo:path) => {
        $crate::steps::Step { name: $name, act: |c| Box::pin($act(c)), undo: |c| Box::pin($undo(c)) }
    };
}
pub(crate) use step;

/// Nothing to take back.
pub(crate) async fn nothing<C>(_: &mut C) -> Result<()> {
    Ok(())
}

/// Runs the list; answers how long each step took.
pub(crate) async fn run<C>(operation: &str, steps: &[Step<C>], context: &mut C) -> Result<Vec<StepTime>> {
    let mut times = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let began = Instant::now();
        if let Err(error) = (step.act)(context).await {
            tracing::debug!(operation, step = step.name, error = %error.chain(), "a step failed; undoing");
            undo(operation, &steps[..=index], context).await;
            return Err(error);
        }
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        times.push(StepTime { name: step.name.to_owned(), micros });
    }
    Ok(times)
}

/// Takes steps back, last first.
pub(crate) async fn undo<C>(operation: &str, steps: &[Step<C>], context: &mut C) {
    for step in steps.iter().rev() {
        if let Err(error) = (step.undo)(context).await {
            tracing::warn!(operation, step = step.name, error = %error.chain(), "an undo failed; it stays recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Error;

    #[derive(Default)]
    struct Log(Vec<&'static str>);

    impl Log {
        async fn first(&mut self) -> Result<()> {
            self.0.push("first");
            Ok(())
        }
        async fn undo_first(&mut self) -> Result<()> {
            self.0.push("undo first");
            Ok(())
        }
        async fn second(&mut self) -> Result<()> {
            self.0.push("second");
            Err(Error::internal("no"))
        }
        async fn undo_second(&mut self) -> Result<()> {
            self.0.push("undo second");
            Err(Error::internal("neither"))
        }
        async fn third(&mut self) -> Result<()> {
            self.0.push("third");
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_failing_step_undoes_itself_and_those_before_it_last_first() {
        let mut log = Log::default();
        let steps: &[Step<Log>] = &[
            step!("first", Log::first, Log::undo_first),
            step!("second", Log::second, Log::undo_second),
            step!("third", Log::third, nothing),
        ];
        run("test", steps, &mut log).await.expect_err("the second step");
        assert_eq!(log.0, ["first", "second", "undo second", "undo first"]);
    }
}
