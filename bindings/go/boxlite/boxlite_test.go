package boxlite

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// made is an image that a test has made, blob by blob.
type made struct {
	manifest, config string
	layers           []string
	blobs            map[string][]byte
}

func makeImage(contents ...string) made {
	m := made{blobs: map[string][]byte{}}
	put := func(kind string, data []byte) map[string]any {
		m.blobs[digestOf(data)] = data
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": digestOf(data), "size": len(data)}
	}
	var layers []any
	for _, content := range contents {
		var layer bytes.Buffer
		w := tar.NewWriter(&layer)
		w.WriteHeader(&tar.Header{Name: content, Mode: 0o640, Uid: 7, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)})
		w.Write([]byte(content))
		w.Close()
		layers = append(layers, put("layer.v1.tar", layer.Bytes()))
		m.layers = append(m.layers, digestOf(layer.Bytes()))
	}
	config, _ := json.Marshal(map[string]any{
		"os": runtime.GOOS, "architecture": runtime.GOARCH, "rootfs": map[string]any{"type": "layers", "diff_ids": m.layers},
		"config": map[string]any{"Cmd": []string{"sh"}, "Env": []string{"A=b"}, "Labels": map[string]string{"k": "v"}},
	})
	manifest, _ := json.Marshal(map[string]any{"schemaVersion": 2, "config": put("config.v1+json", config), "layers": layers})
	m.config, m.manifest = digestOf(config), digestOf(manifest)
	m.blobs[m.manifest] = manifest
	return m
}

// layout writes the image as an OCI layout.
func (m made) layout(t testing.TB, name string) string {
	dir := t.TempDir()
	write := func(path string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	for digest, data := range m.blobs {
		write("blobs/sha256/"+strings.TrimPrefix(digest, "sha256:"), data)
	}
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write("index.json", []byte(fmt.Sprintf(
		`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,`+
			`"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}`, m.manifest, len(m.blobs[m.manifest]), name)))
	return dir
}

func openStore(t testing.TB) *Storage {
	store, err := Open(filepath.Join(t.TempDir(), "store"), &StorageOptions{NotDurable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("%v (%T) is not %v", err, err, target)
		}
	}
}

func TestStaged(t *testing.T) {
	store, data := openStore(t), bytes.Repeat([]byte("layer"), 100_000)
	staged, err := store.StageLayer(digestOf(data), int64(len(data)))
	check(t, err)
	n, err := io.Copy(staged, bytes.NewReader(data))
	check(t, err)
	if n != int64(len(data)) || staged.BytesWritten() != uint64(n) {
		t.Fatal(n, staged.BytesWritten())
	}
	path, err := staged.Path()
	check(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	check(t, staged.Commit())
	final, err := staged.FinalPath()
	check(t, err)
	if stored, err := os.ReadFile(final); err != nil || !bytes.Equal(stored, data) {
		t.Fatal(err)
	}
	check(t, staged.Close())
	has, err := store.HasLayer(digestOf(data))
	if err != nil || !has {
		t.Fatal(has, err)
	}
	check(t, store.VerifyLayer(context.Background(), digestOf(data)))

	wrong, err := store.StageLayer(digestOf([]byte("other")), 3)
	check(t, err)
	_, err = wrong.Write([]byte("abc"))
	check(t, err)
	err = wrong.Commit()
	wants(t, err, ErrDigestMismatch)
	var details *Error
	if !errors.As(err, &details) || details.ExpectedDigest != digestOf([]byte("other")) ||
		details.ActualDigest != digestOf([]byte("abc")) || details.Retryable {
		t.Fatalf("%+v", details)
	}
	_, err = wrong.Write([]byte("d"))
	wants(t, err, ErrState)
	check(t, wrong.Close())
	long, err := store.StageLayer(digestOf(nil), 1)
	check(t, err)
	_, err = long.Write([]byte("ab"))
	wants(t, err, ErrSizeMismatch)
	check(t, long.Close())
}

func TestClosed(t *testing.T) {
	store := openStore(t)
	staged, err := store.StageConfig(digestOf(nil))
	check(t, err)
	lease, err := store.CreateLease(time.Minute)
	check(t, err)
	for range [2]int{} {
		check(t, store.Close())
		check(t, lease.Close())
	}
	_, err = store.Images()
	wants(t, err, ErrClosed, ErrState)
	_, err = store.Pull(context.Background(), "x", nil)
	wants(t, err, ErrClosed)
	wants(t, lease.Release(), ErrClosed)
	// What depends on the store keeps what it needs.
	_, err = staged.Write(nil)
	check(t, err)
	check(t, staged.Abort())
	check(t, staged.Close())
	check(t, staged.Close())
	_, err = staged.Write([]byte("x"))
	wants(t, err, ErrClosed)
	_, err = Open("with\x00null", nil)
	wants(t, err, ErrInvalidArgument)
	_, err = Open("/proc/nowhere", nil)
	var failed *Error
	if !errors.As(err, &failed) || failed.Errno == 0 || !errors.Is(err, failed.Errno) || errors.Is(err, syscall.EXDEV) {
		t.Fatalf("%+v", failed)
	}
}

func TestImages(t *testing.T) {
	ctx, store, m := context.Background(), openStore(t), makeImage("one", "two")
	dir, work := m.layout(t, "a.org/x:1"), t.TempDir()
	names, err := store.Import(ctx, dir, nil)
	check(t, err)
	if len(names) != 1 || names[0] != "a.org/x:1" {
		t.Fatal(names)
	}
	image, err := store.OpenImage(names[0])
	check(t, err)
	defer image.Close()
	info := image.Info()
	if info.ManifestDigest != m.manifest || len(info.Layers) != 2 || info.Layers[1].DiffID != m.layers[1] ||
		info.Labels["k"] != "v" || len(info.Missing) != 0 || info.Cmd[0] != "sh" {
		t.Fatalf("%+v", info)
	}
	saved, err := store.LoadManifest(m.manifest)
	check(t, err)
	check(t, store.SaveManifest(m.manifest, saved))
	config, err := store.LoadConfig(m.config)
	if err != nil || string(config) != info.ConfigJSON {
		t.Fatal(err)
	}
	all, err := store.VerifyBlobsExist(m.layers...)
	if err != nil || !all {
		t.Fatal(err)
	}

	result, err := store.ExtractLayer(ctx, m.layers[0], &ExtractOptions{Tree: TreeOptions{Whiteouts: WhiteoutUserOverlay}})
	if err != nil || result.Entries != 1 || result.Cached || result.DiffID != m.layers[0] {
		t.Fatal(result, err)
	}
	entries, err := store.LayerEntries(m.layers[0], nil)
	check(t, err)
	entry, err := entries.Next()
	for err == nil && entry.Kind != EntryFile {
		entry, err = entries.Next()
	}
	if err != nil || entry.Path != "one" || entry.UID != 7 || entry.Mode != 0o640 || !entry.Mtime.Equal(time.Unix(1e9, 0)) {
		t.Fatal(entry, err)
	}
	_, err = entries.Next()
	wants(t, err, io.EOF)
	check(t, entries.Close())

	root := filepath.Join(work, "root")
	rootfs, err := store.AssembleRootfs(ctx, image, root, &RootfsOptions{Mode: RootfsDirect})
	if err != nil || rootfs.Layers != 2 || rootfs.Entries != 2 {
		t.Fatal(rootfs, err)
	}
	_, err = store.AssembleRootfs(ctx, nil, root, nil)
	wants(t, err, ErrInvalidArgument)
	process, err := image.Process(root)
	if err != nil || process.Args[0] != "sh" || process.UID != 0 || !strings.Contains(process.RuntimeJSON, "A=b") {
		t.Fatal(process, err)
	}
	kept, err := store.KeepDisk(ctx, image, &DiskOptions{LeaseTime: time.Minute})
	if err != nil || kept.Cached || kept.Format != "raw" {
		t.Fatal(kept, err)
	}
	check(t, kept.Lease.Release())
	again, err := store.KeepDisk(ctx, image, nil)
	if err != nil || !again.Cached || again.Path != kept.Path {
		t.Fatal(again, err)
	}
	check(t, again.Lease.Release())
	inLayers, err := store.Process(image)
	if err != nil || inLayers.Args[0] != "sh" || inLayers.UID != 0 {
		t.Fatal(inLayers, err)
	}
	made, err := store.CreateDisk(ctx, image, filepath.Join(work, "disk"), &DiskOptions{Format: DiskEROFS, Layout: DiskMerged, Label: "go"})
	if err != nil || made.Format != "vmdk" || made.FileSystem != "erofs" || len(made.Parts) < 2 || made.Entries != 2 {
		t.Fatal(made, err)
	}
	flat, err := store.CreateDisk(ctx, image, filepath.Join(work, "disk.img"), nil)
	if err != nil || flat.Format != "raw" || flat.FileSystem != "ext4" || flat.Parts[0].LengthBytes != flat.SizeBytes || flat.Key == made.Key {
		t.Fatal(flat, err)
	}
	_, err = store.CreateDisk(ctx, image, filepath.Join(work, "disk.img"), nil)
	wants(t, err, ErrExists)
	verified, err := store.CreateDisk(ctx, image, filepath.Join(work, "verified.img"), &DiskOptions{
		Verity: true,
		Files: []DiskFile{
			{Path: "/etc/from-host", Data: []byte("data"), Mode: 0o600},
			{Path: "/etc/link", Kind: DiskFileSymlink, Target: "from-host"},
			{Path: "/srv/empty", Kind: DiskFileDirectory},
		},
	})
	if err != nil || len(verified.RootHash) != 64 || !strings.Contains(verified.VerityTable, verified.RootHash) || flat.RootHash != "" {
		t.Fatal(verified, err)
	}
	_, err = store.CreateDisk(ctx, image, filepath.Join(work, "no.img"), &DiskOptions{Files: []DiskFile{{Path: "../out"}}})
	wants(t, err, ErrInvalidArgument)
	sized := &DiskOptions{SizeBytes: 64 << 20, Journal: true}
	for at, over := range []*Image{nil, image} {
		empty, err := store.FormatDisk(ctx, over, filepath.Join(work, fmt.Sprintf("empty-%d.img", at)), sized)
		if err != nil || empty.SizeBytes != 64<<20 || empty.Entries != 0 {
			t.Fatal(empty, err)
		}
	}
	preparing := OverlayOptions{LeaseTime: time.Minute}
	if os.Getuid() != 0 {
		preparing.Tree.Whiteouts = WhiteoutUserOverlay
	}
	overlay, err := store.PrepareOverlay(ctx, image, &preparing)
	if err != nil || !strings.HasPrefix(overlay.MountOptions, "lowerdir=/") || overlay.MountDir != "" || len(overlay.LowerDirs) != 2 {
		t.Fatal(overlay, err)
	}
	same, err := store.OpenLease(overlay.Lease.ID())
	check(t, err)
	check(t, same.Extend(time.Hour))
	check(t, same.Release())

	archive := filepath.Join(work, "x.tar")
	check(t, store.Export(ctx, archive, nil, image))
	reader, writer, err := os.Pipe()
	check(t, err)
	exported := make(chan error)
	go func() {
		err := store.ExportFile(ctx, writer, nil, image)
		writer.Close()
		exported <- err
	}()
	names, err = openStore(t).ImportFile(ctx, reader, &ImportOptions{Name: "b.org/y:2"})
	if err != nil || names[0] != "b.org/y:2" {
		t.Fatal(names, err)
	}
	check(t, <-exported)
	bundle, names, err := store.OpenBundle(ctx, dir, nil)
	check(t, err)
	inPlace, err := bundle.OpenImage(names[0])
	check(t, err)
	check(t, inPlace.Close())
	where, err := bundle.ImagesDir()
	cache, err2 := store.LocalBundleCacheDir(dir, m.manifest)
	if err != nil || err2 != nil || where != cache {
		t.Fatal(where, cache)
	}
	check(t, bundle.Close())

	usage, err := store.DiskUsage()
	if err != nil || usage.Layers != 2 {
		t.Fatal(usage, err)
	}
	path, err := store.LayerTarballPath(m.layers[0])
	check(t, err)
	check(t, os.WriteFile(path, []byte("damaged"), 0o644))
	var found []Finding
	checked, err := store.Check(ctx, &CheckOptions{Repair: true, Found: func(f Finding) { found = append(found, f) }})
	if err != nil || checked.Damaged != 1 || len(found) != 2 || found[0].Problem != Damaged || !found[0].Quarantined {
		t.Fatal(checked, found, err)
	}
	check(t, store.RemoveImage("a.org/x:1"))
	removed := 0
	collected, err := store.GC(ctx, &GCOptions{AnyAge: true, Removed: func(string) { removed++ }})
	if err != nil || collected.Removed != uint64(removed) || removed == 0 {
		t.Fatal(collected, removed, err)
	}
}

func TestCommit(t *testing.T) {
	ctx, store, m := context.Background(), openStore(t), makeImage("one", "two")
	_, err := store.Import(ctx, m.layout(t, "a.org/x:1"), nil)
	check(t, err)
	image, err := store.OpenImage("a.org/x:1")
	check(t, err)
	defer image.Close()
	work := t.TempDir()
	upper := filepath.Join(work, "upper")
	check(t, os.MkdirAll(upper, 0o755))
	check(t, os.WriteFile(filepath.Join(upper, "new"), []byte("changed"), 0o644))
	epoch := time.Unix(1_000_000_000, 0)
	committing := &CommitOptions{
		Name: "example.org/changed:1", Epoch: &epoch, Author: "go", Annotations: map[string]string{"e": "f"},
		Config: ConfigChanges{Cmd: &[]string{}, Env: []string{"NEW=1"}, Labels: map[string]string{"c": "d"}},
	}
	committed, err := store.CommitImage(ctx, image, CommitSource{CommitUpper, upper}, committing)
	if err != nil || committed.Entries != 1 || committed.Sockets != 0 {
		t.Fatal(committed, err)
	}
	info := committed.Info()
	if info.Created != "2001-09-09T01:46:40Z" || info.Labels["c"] != "d" || len(info.Cmd) != 0 || len(info.Layers) != len(image.Info().Layers)+1 {
		t.Fatal(info)
	}
	squashed, err := store.SquashImage(ctx, committed.Image, 0, nil)
	if err != nil || len(squashed.Info().Layers) != 1 {
		t.Fatal(squashed, err)
	}
	edited, err := store.EditImage(ctx, image, committing)
	if err != nil || edited.Info().Name != "example.org/changed:1" || len(edited.Info().Layers) != len(image.Info().Layers) {
		t.Fatal(edited, err)
	}
	for _, made := range []*CommittedImage{committed, squashed, edited} {
		check(t, made.Close())
	}
	check(t, store.RemoveImage("example.org/changed:1"))
	_, err = store.CommitImage(ctx, nil, CommitSource{CommitTree, filepath.Join(work, "none")}, nil)
	wants(t, err, ErrNotFound)
}

func TestCallbacks(t *testing.T) {
	ctx, store, m := context.Background(), openStore(t), makeImage("one")
	dir, mine := m.layout(t, "a.org/x:1"), errors.New("mine")
	_, err := store.Import(ctx, dir, &ImportOptions{Progress: func(Progress) error { return mine }})
	wants(t, err, ErrCallback, mine)
	_, err = store.Import(ctx, dir, &ImportOptions{Progress: func(Progress) error { panic("no") }})
	var panicked *Panic
	if wants(t, err, ErrCallback); !errors.As(err, &panicked) || panicked.Value != "no" {
		t.Fatal(err)
	}
	_, err = store.Import(ctx, dir, &ImportOptions{Progress: func(Progress) error { runtime.Goexit(); return nil }})
	if wants(t, err, ErrCallback); !errors.As(err, &panicked) {
		t.Fatal(err)
	}
	// A callback may use the object that its call is of.
	_, err = store.Import(ctx, dir, &ImportOptions{Progress: func(Progress) error { _, err := store.Images(); return err }})
	check(t, err)
	check(t, store.RemoveImage("a.org/x:1"))
	_, err = store.GC(ctx, &GCOptions{AnyAge: true, Removed: func(string) { panic("no") }})
	if wants(t, err, ErrCallback); !errors.As(err, &panicked) {
		t.Fatal(err)
	}
	var mutex sync.Mutex
	lines := 0
	check(t, SetLog(LogDebug, func(LogLevel, string) {
		mutex.Lock()
		defer mutex.Unlock()
		lines++
		panic("in a log line")
	}))
	_, err = store.Import(ctx, dir, nil)
	check(t, err)
	check(t, SetLog(LogOff, nil))
	if lines == 0 {
		t.Fatal("nothing is logged")
	}
}

func TestContexts(t *testing.T) {
	store := openStore(t)
	// A pipe that nobody writes to.
	silent, writer, err := os.Pipe()
	check(t, err)
	defer writer.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	started := time.Now()
	_, err = store.ImportFile(ctx, silent, nil)
	wants(t, err, ErrCancelled, context.Canceled)
	deadline, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = store.ImportFile(deadline, silent, nil)
	wants(t, err, ErrTimeout, context.DeadlineExceeded)
	if time.Since(started) > 5*time.Second {
		t.Fatal("contexts end calls late")
	}
	_, err = store.Import(ctx, "anything", nil)
	wants(t, err, ErrCancelled, context.Canceled)
}

// While a call runs, somebody closes the object: nobody new comes in, and nobody waits who does not have to.
func TestCloseDuringACall(t *testing.T) {
	store := openStore(t)
	silent, writer, err := os.Pipe()
	check(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := store.ImportFile(context.Background(), silent, nil)
		ended <- err
	}()
	time.Sleep(30 * time.Millisecond)
	closed := make(chan error, 2)
	go func() { closed <- store.Close() }()
	go func() { closed <- store.Close() }()
	time.Sleep(30 * time.Millisecond)
	_, err = store.Images()
	wants(t, err, ErrClosed)
	if len(closed) != 0 || len(ended) != 0 {
		t.Fatal("it is closed while it is used")
	}
	check(t, writer.Close())
	wants(t, <-ended, ErrMalformed)
	check(t, <-closed)
	check(t, <-closed)
}

// Bytes in the middle of something that has pointers, and no others.
func TestBytesInAStruct(t *testing.T) {
	type part struct {
		next *part
		data [5]byte
	}
	store, p := openStore(t), &part{next: &part{}, data: [5]byte{'h', 'e', 'l', 'l', 'o'}}
	staged, err := store.StageLayer(digestOf(p.data[:]), 5)
	check(t, err)
	_, err = staged.Write(p.data[:])
	check(t, err)
	check(t, staged.Commit())
	check(t, staged.Close())
	p.data[0] = '{'
	wants(t, store.SaveManifest(digestOf([]byte("x")), p.data[:]), ErrDigestMismatch)
	_, err = store.OpenImage("none")
	wants(t, err, ErrNotFound, fs.ErrNotExist)
}

// registry serves an image as the distribution specification has it, to whoever has the password.
func registry(t *testing.T, m made) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "user" || password != "password" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		what := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		if what == "1" {
			what = m.manifest
		}
		data, found := m.blobs[what]
		if !found {
			http.NotFound(w, r)
			return
		}
		if what == m.manifest {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
		w.Header().Set("Docker-Content-Digest", what)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestPull(t *testing.T) {
	ctx, store, m := context.Background(), openStore(t), makeImage("one", "two", "three")
	host := registry(t, m)
	var last PullProgress
	asked := ""
	options := &PullOptions{
		Registries: []RegistryOptions{{Host: host, PlainHTTP: true, Headers: []string{"X-A: b", "X-C: d"}}},
		Credentials: func(host, repository string) (string, string, error) {
			asked = host + " " + repository
			return "user", "password", nil
		},
		Progress: func(p PullProgress) error { last = p; return nil },
	}
	image, err := store.Pull(ctx, host+"/team/x:1", options)
	check(t, err)
	defer image.Close()
	if image.Info().ManifestDigest != m.manifest || asked != host+" team/x" || last.Phase != PullDone || len(last.Layers) != 3 ||
		!last.Layers[2].Done || last.Layers[2].Digest != m.layers[2] {
		t.Fatal(image.Info(), asked, last)
	}
	options.Policy = PullAlways
	mine := errors.New("mine")
	options.Credentials = func(string, string) (string, string, error) { return "", "", mine }
	_, err = store.Pull(ctx, host+"/team/x:1", options)
	wants(t, err, ErrCallback, mine)
	options.Credentials = nil
	_, err = store.Pull(ctx, host+"/team/x:1", options)
	var failed *Error
	if wants(t, err, ErrUnauthorized); !errors.As(err, &failed) || failed.HTTPStatus != 401 {
		t.Fatalf("%+v", failed)
	}
	options.Password = "without a user"
	_, err = store.Pull(ctx, host+"/team/x:1", options)
	wants(t, err, ErrInvalidArgument)
	options.User, options.Password = "user", "password"
	_, err = store.Pull(ctx, host+"/team/none:2", options)
	wants(t, err, ErrNotFound)
	options.Tree.Whiteouts = 9
	_, err = store.Pull(ctx, host+"/team/x:1", options)
	wants(t, err, ErrUnsupported)
}

// Many goroutines on few objects, and one that closes them meanwhile.
func TestGoroutines(t *testing.T) {
	store, m := openStore(t), makeImage("one", "two")
	dir := m.layout(t, "a.org/x:1")
	var group sync.WaitGroup
	for i := 0; i < 16; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			data := []byte(strings.Repeat(strconv.Itoa(i%4), 10_000))
			for n := 0; n < 10; n++ {
				staged, err := store.StageLayer(digestOf(data), int64(len(data)))
				if errors.Is(err, ErrClosed) {
					return
				}
				check(t, err)
				_, err = staged.Write(data)
				check(t, err)
				check(t, staged.Commit())
				check(t, staged.Close())
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Millisecond)
				if _, err := store.Import(ctx, dir, nil); err != nil && !errors.Is(err, ErrClosed) {
					wants(t, err, ErrTimeout)
				}
				cancel()
			}
		}(i)
	}
	time.Sleep(30 * time.Millisecond)
	check(t, store.Close())
	group.Wait()
}

// Everything that has a number has the header's.
func TestNumbers(t *testing.T) {
	text, err := os.ReadFile("../../../include/boxlite_images.h")
	if err != nil {
		t.Skip("the header is not beside the package: ", err)
	}
	numbers := map[string]int64{}
	for _, match := range regexp.MustCompile(`(?m)^#define (BL_\w+) \(?(-?\d+)\)?$`).FindAllStringSubmatch(string(text), -1) {
		numbers[match[1]], _ = strconv.ParseInt(match[2], 10, 64)
	}
	for name, number := range map[string]int64{
		"BL_E_INVALID_ARGUMENT": int64(ErrInvalidArgument), "BL_E_NOT_FOUND": int64(ErrNotFound), "BL_E_BUSY": int64(ErrBusy),
		"BL_E_STATE": int64(ErrState), "BL_E_EXISTS": int64(ErrExists), "BL_E_NO_SPACE": int64(ErrNoSpace), "BL_E_DIGEST_MISMATCH": int64(ErrDigestMismatch),
		"BL_E_UNSAFE_PATH": int64(ErrUnsafePath), "BL_E_LIMIT": int64(ErrLimit), "BL_E_REGISTRY": int64(ErrRegistry),
		"BL_E_CANCELLED": int64(ErrCancelled), "BL_E_CALLBACK": int64(ErrCallback), "BL_E_INTERNAL": int64(ErrInternal),
		"BL_WHITEOUTS_USER_OVERLAY": int64(WhiteoutUserOverlay), "BL_LAYER_EROFS": int64(LayerEROFS), "BL_DISK_EROFS": int64(DiskEROFS),
		"BL_DISK_LAYOUT_MERGED":          int64(DiskMerged),
		"BL_ANOMALY_COPIED_LINK":         int64(AnomalyCopiedLink),
		"BL_ANOMALY_TRAILING_COMPRESSED": int64(AnomalyTrailingCompressed), "BL_ENTRY_FILE": int64(EntryFile),
		"BL_ENTRY_OPAQUE": int64(EntryOpaque), "BL_ROOTFS_MODE_DIRECT": int64(RootfsDirect), "BL_PULL_POLICY_NEVER": int64(PullNever),
		"BL_PULL_PHASE_DONE": int64(PullDone), "BL_PROBLEM_MISSING": int64(Missing), "BL_LOG_TRACE": int64(LogTrace),
		"BL_FEATURE_PULL": int64(FeaturePull), "BL_FEATURE_ISAL": int64(FeatureISAL),
	} {
		if actual, found := numbers[name]; !found || actual != number {
			t.Errorf("%s is %d in the header and %d here", name, actual, number)
		}
	}
	if !HasFeature(FeaturePull) || HasFeature(0) {
		t.Error("the library is built with pulls, and there is no feature 0")
	}
	for status := ErrInternal; status < 0; status++ {
		if name := "BL_E_" + status.Error(); numbers[name] != int64(status) {
			t.Errorf("%s is %d in the header and %d here", name, numbers[name], status)
		}
	}
}

// What a call costs that is not the library's: next to nothing of what 64 KiB cost.
func BenchmarkWrite64KiB(b *testing.B) { benchmarkWrite(b, 64<<10) }

func BenchmarkWriteNothing(b *testing.B) { benchmarkWrite(b, 0) }

func benchmarkWrite(b *testing.B, size int) {
	store, data := openStore(b), make([]byte, size)
	staged, err := store.StageLayer(digestOf(nil), 0)
	check(b, err)
	defer staged.Close()
	b.SetBytes(int64(size))
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		// A new one now and then, so that no disk fills.
		if i%1000 == 999 {
			b.StopTimer()
			check(b, staged.Close())
			staged, err = store.StageLayer(digestOf(nil), 0)
			check(b, err)
			b.StartTimer()
		}
		if _, err := staged.Write(data); err != nil {
			b.Fatal(err)
		}
	}
}
