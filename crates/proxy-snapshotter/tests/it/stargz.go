// The stargz snapshotter of Debian's Go packages, for tests with registries on loopback:
//
//	stargz serve ROOT SOCKET    serves containerd's snapshots API
//	stargz convert IN OUT       makes a layer (tar, gzip) one whose files can be got one by one; prints two digests:
//	                            of its table of contents, and of what it unpacks to
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/reference"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/stargz-snapshotter/estargz"
	stargzfs "github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/layer"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/containerd/stargz-snapshotter/snapshot"
	"google.golang.org/grpc"
)

func hosts(ref reference.Spec) ([]docker.RegistryHost, error) {
	return []docker.RegistryHost{{
		Client: &http.Client{Transport: http.DefaultTransport}, Host: ref.Hostname(), Scheme: "http", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
	}}, nil
}

func serve(root, socket string) error {
	// Nothing is fetched ahead: what is on the disk afterwards is what was read.
	settings := config.Config{NoPrometheus: true, NoPrefetch: true, NoBackgroundFetch: true}
	fs, err := stargzfs.NewFilesystem(filepath.Join(root, "stargz"), settings,
		stargzfs.WithGetSources(source.FromDefaultLabels(hosts)), stargzfs.WithOverlayOpaqueType(layer.OverlayOpaqueTrusted))
	if err != nil {
		return err
	}
	snapshotter, err := snapshot.NewSnapshotter(context.Background(), filepath.Join(root, "snapshotter"), fs)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

func convert(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	info, err := in.Stat()
	if err != nil {
		return err
	}
	blob, err := estargz.Build(io.NewSectionReader(in, 0, info.Size()))
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, blob); err != nil {
		return err
	}
	if err := blob.Close(); err != nil {
		return err
	}
	fmt.Println(blob.TOCDigest(), blob.DiffID())
	return out.Close()
}

func main() {
	run := map[string]func(string, string) error{"serve": serve, "convert": convert}[os.Args[1]]
	if err := run(os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}
