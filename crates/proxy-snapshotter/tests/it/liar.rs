//! A snapshotter whose answers are wrong, endless, or never come.

use crate::fresh;
use proxy_snapshotter::api::snapshots_server::{Snapshots, SnapshotsServer};
use proxy_snapshotter::api::*;
use proxy_snapshotter::{Proxy, ProxyConfig};
use snapshots::Snapshotter;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use types::ErrorKind;

/// What it answers; the number counts up from test to test.
#[derive(Clone, Default)]
struct Liar(Arc<AtomicUsize>);

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|o| (*o).to_owned()).collect();
    Mount { r#type: kind.into(), source: source.into(), target: String::new(), options }
}

#[tonic::async_trait]
impl Snapshots for Liar {
    async fn prepare(
        &self,
        _: Request<PrepareSnapshotRequest>,
    ) -> Result<Response<PrepareSnapshotResponse>, Status> {
        let mounts = match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => vec![],
            1 => vec![mount("bind", "/", &["suid"])],
            2 => vec![mount("bind", "../../etc", &[])],
            3 => vec![mount("overlay", "", &["lowerdir=/etc:../.."])],
            4 => vec![mount("bind", "/", &[]); 1000],
            5 => vec![mount("proc", "proc", &[])],
            6 => vec![mount("bind", &"/x".repeat(1 << 20), &[])],
            7 => return Err(Status::internal("\u{1b}[31m".repeat(10_000))),
            // More than an answer may have.
            _ => vec![mount("bind", &"/x".repeat(10 << 20), &[])],
        };
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(&self, _: Request<ViewSnapshotRequest>) -> Result<Response<ViewSnapshotResponse>, Status> {
        Err(Status::already_exists(""))
    }

    async fn mounts(&self, _: Request<MountsRequest>) -> Result<Response<MountsResponse>, Status> {
        Ok(Response::new(MountsResponse { mounts: vec![] }))
    }

    async fn commit(&self, _: Request<CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn remove(&self, _: Request<RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn stat(&self, _: Request<StatSnapshotRequest>) -> Result<Response<StatSnapshotResponse>, Status> {
        Ok(Response::new(StatSnapshotResponse { info: None }))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<ListSnapshotsResponse, Status>> + Send>>;

    async fn list(&self, _: Request<ListSnapshotsRequest>) -> Result<Response<Self::ListStream>, Status> {
        if self.0.load(Ordering::Relaxed) == 0 {
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        }
        // Without end.
        let answer = || {
            let info = Info { name: "x".into(), kind: Kind::Committed.into(), ..Info::default() };
            Ok(ListSnapshotsResponse { info: vec![info; 1000] })
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(std::iter::repeat_with(answer)))))
    }

    async fn usage(&self, _: Request<UsageRequest>) -> Result<Response<UsageResponse>, Status> {
        Ok(Response::new(UsageResponse { size: -1, inodes: i64::MIN }))
    }
}

#[test]
fn no_answer_of_a_snapshotter_is_taken_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let liar = Liar::default();
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::bind(&socket).expect("listen")
    };
    let server = tonic::transport::Server::builder().add_service(SnapshotsServer::new(liar.clone()));
    runtime.spawn(server.serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener)));
    let config = ProxyConfig { address: socket, snapshotter: "liar".into() };
    let proxy = Proxy::open(&folder.path().join("ours"), config).expect("open");
    let layer = fresh();
    for nth in 0..9 {
        let error = proxy.prepare("c", std::slice::from_ref(&layer)).expect_err("a lie");
        assert!(error.message().len() < 2000, "{nth}: {} bytes", error.message().len());
        assert!(!error.chain().contains('\u{1b}'), "{nth}");
    }
    assert_eq!(proxy.layers().expect_err("without end").kind(), ErrorKind::ResourceExhausted);
    let usage = proxy.layer_usage(&layer).expect("usage");
    assert_eq!((usage.bytes, usage.inodes), (0, 0));
    assert!(!proxy.has_layer(&layer), "a layer that nothing is said of is not there");
    assert!(proxy.view(std::slice::from_ref(&layer)).is_err());
    for bad in ["", "../x", "a/b", ".", "a\nb"] {
        assert_eq!(proxy.prepare(bad, &[]).expect_err(bad).kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}
