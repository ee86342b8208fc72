//! One connection for one call: made, used and gone within a time limit, on the calling thread alone.

use crate::address::{outer_user, sockets};
use crate::error::Error;
use crate::scope::Bus;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use zbus::Connection;
use zbus::connection::Builder;

/// Runs one talk with systemd, to `what` the `unit`.
///
/// Not from within an async task: this blocks the thread. No thread is started and no connection stays. (The first runtime of a
/// process leaves a pair of descriptors that close on exec, tokio's own for signals.)
pub(crate) fn run<T>(
    bus: Bus,
    patience: Duration,
    what: &'static str,
    unit: &str,
    talk: impl AsyncFnOnce(&Connection) -> Result<T, Error>,
) -> types::Result<T> {
    let sockets = sockets(bus)?;
    // Everything runs on this thread while it waits here; the tasks of the connection end with the runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::Runtime)?;
    let late = || Error::Late { what, unit: unit.to_owned(), patience };
    let result = runtime.block_on(async {
        let talk = async {
            let connection = connect(&sockets).await?;
            talk(&connection).await
        };
        tokio::time::timeout(patience, talk).await.unwrap_or_else(|_| Err(late()))
    });
    Ok(result?)
}

/// The first socket that answers; the error of the first one when none does.
async fn connect(sockets: &[PathBuf]) -> Result<Connection, Error> {
    let mut first = None;
    for socket in sockets {
        match connect_to(socket).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                let address = socket.display().to_string().replace('\0', "@");
                let source = Box::new(error);
                first.get_or_insert(Error::Connect { address, source });
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::Absent { why: "there is no address to reach it at".to_owned() }))
}

async fn connect_to(socket: &Path) -> zbus::Result<Connection> {
    let stream = UnixStream::connect(socket).await?;
    let mut builder = Builder::unix_stream(stream);
    if let Some(user) = outer_user() {
        builder = builder.user_id(user);
    }
    builder.build().await
}
