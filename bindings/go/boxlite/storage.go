package boxlite

import (
	"context"
	"sync"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// VersionString is that of the library that is loaded.
func VersionString() string { return capi.VersionString() }

// VersionNumber is major * 1000000 + minor * 1000 + patch.
func VersionNumber() uint32 { return capi.VersionNumber() }

// Feature is what a library may be built with.
type Feature uint32

// The features.
const (
	// FeaturePull is pulls from registries.
	FeaturePull Feature = 1
	// FeatureISAL is layers that ISA-L inflates.
	FeatureISAL Feature = 2
)

// HasFeature says whether the library that is loaded was built with it.
func HasFeature(feature Feature) bool { return capi.HasFeature(uint32(feature)) }

// Shutdown ends what runs on the network, and its threads; a timeout of 0 only tells them. They start again when they are needed.
func Shutdown(timeout time.Duration) error { return of(capi.Shutdown(milliseconds(timeout)), nil) }

// LogLevel is how much is logged.
type LogLevel int32

// The levels.
const (
	LogOff LogLevel = iota
	LogError
	LogWarn
	LogInfo
	LogDebug
	LogTrace
)

// SetLog sets where the library's log lines go, for the whole process; nil is nowhere. The function must return soon.
func SetLog(level LogLevel, line func(level LogLevel, message string)) error {
	if line == nil {
		return of(capi.SetLog(int32(level), nil), nil)
	}
	return of(capi.SetLog(int32(level), func(l capi.LogLine) { line(LogLevel(l.Level), l.Message) }), nil)
}

// guard counts the calls that use an object. From the moment that somebody closes it nobody new comes in, and when the last
// one is out it is freed.
type guard struct {
	mutex  sync.Mutex
	users  int
	closed bool
	// left is closed when there is nobody any more.
	left chan struct{}
}

// enter must be followed by leave where it gives nil.
func (g *guard) enter() error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.users++
	return nil
}

func (g *guard) leave() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.users--
	if g.closed && g.users == 0 {
		close(g.left)
	}
}

// close waits for the calls that are running, and frees the first time. Whoever comes second waits too.
func (g *guard) close(free func()) error {
	g.mutex.Lock()
	if g.closed {
		left := g.left
		g.mutex.Unlock()
		<-left
		return nil
	}
	g.closed, g.left = true, make(chan struct{})
	if g.users == 0 {
		close(g.left)
	}
	left := g.left
	g.mutex.Unlock()
	<-left
	free()
	return nil
}

func milliseconds(d time.Duration) uint64 { return whole(d, time.Millisecond) }

// whole rounds up, so that a short time is not none.
func whole(d, unit time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d + unit - 1) / unit)
}

func flag(is bool, flag uint64) uint64 {
	if is {
		return flag
	}
	return 0
}

// StorageOptions say how to open a store; nil and zero are the defaults.
type StorageOptions struct {
	// ReadOnly: nothing in the directory is created, changed or removed.
	ReadOnly bool
	// SingleProcess is for file systems where flock does not work.
	SingleProcess bool
	// NotDurable: nothing is flushed; for stores that can be thrown away.
	NotDurable bool
	// MaxBlobBytes in bytes; 0 is 50 GiB.
	MaxBlobBytes uint64
	// MinFreeBytes of the file system stay free.
	MinFreeBytes uint64
	// GCAboveBytes: above so many the store is collected before a layer is stored; GCMinAge is what stays then.
	GCAboveBytes uint64
	GCMinAge     time.Duration
}

// Storage is an open image store.
type Storage struct {
	guard
	raw *capi.Storage
}

// Open opens the store in a directory, which is created where it is missing.
func Open(dir string, options *StorageOptions) (*Storage, error) {
	o := StorageOptions{}
	if options != nil {
		o = *options
	}
	c := capi.StorageOptions{
		Flags: flag(o.ReadOnly, storageReadOnly) | flag(o.SingleProcess, storageSingleProcess), MaxBlobBytes: o.MaxBlobBytes, MinFreeBytes: o.MinFreeBytes,
		GCAboveBytes: o.GCAboveBytes, GCMinAge: whole(o.GCMinAge, time.Second), Durability: uint32(flag(o.NotDurable, durabilityNone)),
	}
	raw, err := capi.OpenStorage(dir, c)
	if err != nil {
		return nil, of(err, nil)
	}
	return &Storage{raw: raw}, nil
}

// Close waits for the calls that are running and closes the store.
func (s *Storage) Close() error { return s.close(func() { s.raw.Close() }) }

func (s *Storage) text(question capi.Text, digest string) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	text, err := s.raw.Text(question, digest)
	return text, of(err, nil)
}

func (s *Storage) path(question capi.Text, digest string) (string, error) {
	text, err := s.text(question, digest)
	return string(text), err
}

// ImagesDir is the store's directory.
func (s *Storage) ImagesDir() (string, error) { return s.path(capi.ImagesDir, "") }

// LayersDir is the folder of the layers' blobs.
func (s *Storage) LayersDir() (string, error) { return s.path(capi.LayersDir, "") }

// LoadManifest gives a manifest, verified.
func (s *Storage) LoadManifest(digest string) ([]byte, error) {
	return s.text(capi.LoadManifest, digest)
}

// LoadConfig gives a config, verified.
func (s *Storage) LoadConfig(digest string) ([]byte, error) { return s.text(capi.LoadConfig, digest) }

// ManifestPath is where a manifest is, or would be.
func (s *Storage) ManifestPath(digest string) (string, error) {
	return s.path(capi.ManifestPath, digest)
}

// ConfigPath is where a config is, or would be.
func (s *Storage) ConfigPath(digest string) (string, error) { return s.path(capi.ConfigPath, digest) }

// LayerTarballPath is where a layer's blob is, or would be.
func (s *Storage) LayerTarballPath(digest string) (string, error) {
	return s.path(capi.LayerTarballPath, digest)
}

// LayerExtractedPath is where an extracted layer is, or would be.
func (s *Storage) LayerExtractedPath(digest string) (string, error) {
	return s.path(capi.LayerExtractedPath, digest)
}

func (s *Storage) has(kind capi.Kind, digest string) (bool, error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	has, err := s.raw.Has(kind, digest)
	return has, of(err, nil)
}

// HasManifest tells whether the store has a manifest.
func (s *Storage) HasManifest(digest string) (bool, error) { return s.has(capi.Manifest, digest) }

// HasConfig tells whether the store has a config.
func (s *Storage) HasConfig(digest string) (bool, error) { return s.has(capi.Config, digest) }

// HasLayer tells whether the store has a layer's blob.
func (s *Storage) HasLayer(digest string) (bool, error) { return s.has(capi.Layer, digest) }

// VerifyBlobsExist tells whether the store has all of these layers.
func (s *Storage) VerifyBlobsExist(digests ...string) (bool, error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	has, err := s.raw.VerifyBlobsExist(digests)
	return has, of(err, nil)
}

// SaveManifest stores a manifest or an index, which must hash to its digest.
func (s *Storage) SaveManifest(digest string, json []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return of(s.raw.SaveManifest(digest, json), nil)
}

// VerifyLayer reads a layer's blob and compares it with its digest.
func (s *Storage) VerifyLayer(ctx context.Context, digest string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) { return s.raw.VerifyLayer(digest, cancel), nil })
}

// LocalBundleCacheDir is the cache folder of a layout's folder that is used where it is.
func (s *Storage) LocalBundleCacheDir(path, manifestDigest string) (string, error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	defer s.leave()
	dir, err := s.raw.BundleCacheDir(path, manifestDigest)
	return dir, of(err, nil)
}

// StageLayer begins to store a layer. A size of 0 or less is not known.
func (s *Storage) StageLayer(digest string, size int64) (*Staged, error) {
	return s.stage(capi.Layer, digest, size)
}

// StageConfig begins to store a config.
func (s *Storage) StageConfig(digest string) (*Staged, error) { return s.stage(capi.Config, digest, 0) }

func (s *Storage) stage(kind capi.Kind, digest string, size int64) (*Staged, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	raw, err := s.raw.Stage(kind, digest, size)
	if err != nil {
		return nil, of(err, nil)
	}
	return &Staged{raw: raw}, nil
}

// Staged is a blob on its way into the store: an io.Writer that hashes. Nothing is visible before Commit; Close without it
// leaves nothing.
type Staged struct {
	guard
	raw *capi.Staged
}

// Write appends. It keeps nothing of p.
func (s *Staged) Write(p []byte) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	if err := s.raw.Write(p); err != nil {
		return 0, of(err, nil)
	}
	return len(p), nil
}

// Commit verifies size and digest and makes the blob visible.
func (s *Staged) Commit() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return of(s.raw.Commit(), nil)
}

// Abort ends the download and removes what was written.
func (s *Staged) Abort() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return of(s.raw.Abort(), nil)
}

// Close lets it go; what was not committed is removed.
func (s *Staged) Close() error { return s.close(func() { s.raw.Free() }) }

// BytesWritten is how much was written; 0 when it is closed.
func (s *Staged) BytesWritten() uint64 {
	if s.enter() != nil {
		return 0
	}
	defer s.leave()
	return s.raw.BytesWritten()
}

// Path is the partial file, for messages.
func (s *Staged) Path() (string, error) { return s.path(false) }

// FinalPath is where the blob will be.
func (s *Staged) FinalPath() (string, error) { return s.path(true) }

func (s *Staged) path(final bool) (string, error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	defer s.leave()
	path, err := s.raw.Path(final)
	return path, of(err, nil)
}

// CreateLease makes a lease, which holds objects without a name for so long, also when this process is gone.
func (s *Storage) CreateLease(d time.Duration) (*Lease, error) {
	return s.lease(func() (*capi.Lease, *capi.Error) { return s.raw.CreateLease(seconds(d)) })
}

// OpenLease finds a lease again.
func (s *Storage) OpenLease(id string) (*Lease, error) {
	return s.lease(func() (*capi.Lease, *capi.Error) { return s.raw.OpenLease(id) })
}

func seconds(d time.Duration) uint64 { return whole(d, time.Second) }

func (s *Storage) lease(get func() (*capi.Lease, *capi.Error)) (*Lease, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	raw, err := get()
	if err != nil {
		return nil, of(err, nil)
	}
	return &Lease{raw: raw, id: raw.ID()}, nil
}

// Lease holds objects. Close does not end it; Release does.
type Lease struct {
	guard
	raw *capi.Lease
	id  string
}

// ID is what OpenLease takes.
func (l *Lease) ID() string { return l.id }

// Hold adds a blob.
func (l *Lease) Hold(digest string) error {
	return l.do(func() *capi.Error { return l.raw.Hold(digest) })
}

// Extend gives it so much time from now.
func (l *Lease) Extend(d time.Duration) error {
	return l.do(func() *capi.Error { return l.raw.Extend(seconds(d)) })
}

// Release ends it.
func (l *Lease) Release() error { return l.do(func() *capi.Error { return l.raw.Release() }) }

// Close lets the object go.
func (l *Lease) Close() error { return l.close(func() { l.raw.Free() }) }

func (l *Lease) do(call func() *capi.Error) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	return of(call(), nil)
}
