//! The calls of `org.freedesktop.systemd1.Manager` that scopes need (org.freedesktop.systemd1(5)).

use crate::error::Error;
use crate::properties::{Properties, Property};
use futures_util::StreamExt;
use serde::Serialize;
use zbus::message::Type;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, MatchRule, Message, MessageStream};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Systemd, over one connection.
pub(crate) struct Manager<'a> {
    connection: &'a Connection,
}

impl<'a> Manager<'a> {
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    async fn call<B: Serialize + DynamicType>(
        &self,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message, zbus::Error> {
        self.connection.call_method(Some(NAME), PATH, Some(interface), method, body).await
    }

    /// A property of the manager itself, which is a string.
    pub async fn text_property(&self, name: &str, unit: &str) -> Result<String, Error> {
        let what = "say something about itself before it got to";
        let fail = |error| said(what, unit, error);
        let answer =
            self.call("org.freedesktop.DBus.Properties", "Get", &(MANAGER, name)).await.map_err(fail)?;
        let value: OwnedValue = answer.body().deserialize().map_err(fail)?;
        String::try_from(value).map_err(|error| fail(zbus::Error::from(error)))
    }

    /// Those that this systemd knows. It is asked for its version only when one of them is new.
    pub async fn known(&self, properties: &Properties, unit: &str) -> Result<Properties, Error> {
        if properties.newest() == 0 {
            return Ok(properties.clone());
        }
        let version = self.text_property("Version", unit).await?;
        // One whose version cannot be read is taken for new: it says itself what it does not know.
        Ok(properties.known_by(major(&version).unwrap_or(u32::MAX)))
    }

    /// Starts a transient unit, and waits for the end of the job.
    pub async fn start(&self, unit: &str, properties: &Properties) -> Result<(), Error> {
        let what = "start";
        let mut jobs = self.jobs(unit).await.map_err(|error| said(what, unit, error))?;
        let none: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
        let body = (unit, "fail", pairs(properties), none);
        let mut answer = self.call(MANAGER, "StartTransientUnit", &body).await;
        if is(&answer, UNIT_EXISTS) {
            // It may be what is left of one that failed, and makes room then.
            let _ = self.call(MANAGER, "ResetFailedUnit", &(unit,)).await;
            answer = self.call(MANAGER, "StartTransientUnit", &body).await;
        }
        if is(&answer, UNIT_EXISTS) {
            return Err(Error::Exists { unit: unit.to_owned() });
        }
        let job = job_of(answer).map_err(|error| said(what, unit, error))?;
        let result = self.finished(&mut jobs, &job).await.map_err(|error| said(what, unit, error))?;
        if result == "done" {
            return Ok(());
        }
        let _ = self.call(MANAGER, "ResetFailedUnit", &(unit,)).await;
        Err(Error::Job { what, unit: unit.to_owned(), result })
    }

    /// Sets properties until the unit ends.
    pub async fn change(&self, unit: &str, properties: &Properties) -> Result<(), Error> {
        let body = (unit, true, pairs(properties));
        let answer = self.call(MANAGER, "SetUnitProperties", &body).await;
        answer.map(drop).map_err(|error| said("change", unit, error))
    }

    /// Moves a process into the unit's group, or into one below it, with a slash before it.
    pub async fn attach(&self, unit: &str, below: &str, pid: i32) -> Result<(), Error> {
        let body = (unit, below, vec![pid.unsigned_abs()]);
        let answer = self.call(MANAGER, "AttachProcessesToUnit", &body).await;
        answer.map(drop).map_err(|error| said("move a process into", unit, error))
    }

    /// Stops a unit, waits for the end of the job, and lets systemd forget a failure.
    pub async fn stop(&self, unit: &str) -> Result<(), Error> {
        let what = "stop";
        let mut jobs = self.jobs(unit).await.map_err(|error| said(what, unit, error))?;
        let answer = self.call(MANAGER, "StopUnit", &(unit, "replace")).await;
        if !is(&answer, NO_SUCH_UNIT) {
            let job = job_of(answer).map_err(|error| said(what, unit, error))?;
            let result = self.finished(&mut jobs, &job).await.map_err(|error| said(what, unit, error))?;
            if result != "done" {
                tracing::debug!(unit, result, "the job that stops a unit did not end well");
            }
        }
        // Fails for nearly every unit: one that is gone has not failed.
        let _ = self.call(MANAGER, "ResetFailedUnit", &(unit,)).await;
        Ok(())
    }

    /// The ends of this unit's jobs, from now on. To be asked for before the job is, which may be quick.
    async fn jobs(&self, unit: &str) -> Result<MessageStream, zbus::Error> {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(NAME)?.path(PATH)?;
        let rule = rule.interface(MANAGER)?.member("JobRemoved")?;
        // Only ours, however many containers start at once: `JobRemoved(id, job, unit, result)`.
        let rule = rule.arg(2, unit)?.build();
        MessageStream::for_match_rule(rule, self.connection, Some(64)).await
    }

    async fn finished(&self, jobs: &mut MessageStream, job: &OwnedObjectPath) -> Result<String, zbus::Error> {
        while let Some(message) = jobs.next().await {
            let message = message?;
            let body = message.body();
            let (_, ended, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            if ended == *job {
                return Ok(result);
            }
        }
        Err(zbus::Error::Failure("the connection was closed".to_owned()))
    }
}

fn pairs(properties: &Properties) -> Vec<(&str, &Value<'static>)> {
    properties.iter().map(|Property { name, value, .. }| (name.as_str(), value)).collect()
}

fn job_of(answer: Result<Message, zbus::Error>) -> Result<OwnedObjectPath, zbus::Error> {
    answer?.body().deserialize()
}

fn is(answer: &Result<Message, zbus::Error>, name: &str) -> bool {
    matches!(answer, Err(zbus::Error::MethodError(said, _, _)) if said.as_str() == name)
}

/// What an error of the bus means.
fn said(what: &'static str, unit: &str, error: zbus::Error) -> Error {
    match error {
        zbus::Error::MethodError(name, message, _) => {
            let message: String = message.unwrap_or_default().chars().take(500).collect();
            Error::Refused { what, unit: unit.to_owned(), name: name.to_string(), message }
        }
        other => Error::Bus { what, unit: unit.to_owned(), source: Box::new(other) },
    }
}

/// The number in `252.39-1~deb12u1`, `v245` or `"241"`.
fn major(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(['"', 'v']);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_are_read_in_all_their_forms() {
        assert_eq!(major("252.39-1~deb12u1"), Some(252));
        assert_eq!(major("v245"), Some(245));
        assert_eq!(major("\"241\""), Some(241));
        assert_eq!(major(""), None);
        assert_eq!(major("x1"), None);
        assert_eq!(major("99999999999999"), None);
    }
}
