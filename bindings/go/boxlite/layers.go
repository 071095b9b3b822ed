package boxlite

import (
	"context"
	"io"
	"io/fs"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// Limits on what a layer may cost; 0 is the default. They are those of bl_layer_limits.
type Limits struct {
	LayerBytes, CompressionRatio, Entries, NameComponentBytes, PathDepth, PathBytes, HeaderMetadataBytes, StackedHeaders,
	SparseChunks, SymlinkTargetBytes, SymlinkHops, SymlinkSteps, DirectorySteps, XattrValueBytes, Xattrs, XattrsBytes, KeptMetadataBytes,
	RecordBytes, ZstdWindowLog uint64
}

// Progress is how far a call came.
type Progress struct{ BytesIn, BytesOut, Entries uint64 }

// Whiteouts is how a tree says what lower layers lose.
type Whiteouts uint32

// The forms.
const (
	WhiteoutMarkers Whiteouts = iota
	WhiteoutOverlay
	WhiteoutUserOverlay
)

// LayerForm is what an extracted layer is.
type LayerForm uint32

// What it can be: a directory, or one file with an EROFS file system in it, which nobody may write to.
const (
	LayerDirectory LayerForm = iota
	LayerEROFS
)

// Anomalies are bits for what was odd about a layer and did no harm.
type Anomalies uint64

// The anomalies.
const (
	AnomalyTrailingCompressed Anomalies = 1 << iota
	AnomalyTrailingArchive
	AnomalySkippedXattr
	AnomalySkippedAufs
	AnomalySelfLink
	AnomalyIgnoredHeader
	AnomalyDevicePlaceholder
	AnomalyOwnerNotSet
	AnomalyLowerLink
	AnomalyLongWhiteout
	AnomalyCopiedLink
)

// TreeOptions say what a tree looks like and what a layer may cost; nil and zero are the defaults.
type TreeOptions struct {
	// DeviceNodes are made, as root.
	DeviceNodes bool
	// Strict refuses a layer with any anomaly.
	Strict bool
	// OverrideStat writes owners and modes to user.containers.override_stat.
	OverrideStat bool
	// Whiteouts are how the tree of a layer says what lower layers lose.
	Whiteouts Whiteouts
	// Form is what an extracted layer is. With LayerEROFS, DeviceNodes, OverrideStat and Whiteouts must have their defaults.
	Form LayerForm
	// Limits are what a layer may cost.
	Limits *Limits
}

func (o *TreeOptions) c() *capi.TreeOptions {
	if o == nil {
		o = &TreeOptions{}
	}
	return &capi.TreeOptions{
		Flags:     flag(o.DeviceNodes, treeDeviceNodes) | flag(o.Strict, treeStrict) | flag(o.OverrideStat, treeOverrideStat),
		Whiteouts: uint32(o.Whiteouts), Form: uint32(o.Form), Limits: (*capi.Limits)(o.Limits),
	}
}

// ExtractOptions say how to extract a layer; nil and zero are the defaults.
type ExtractOptions struct {
	// Tree is what it looks like, and may cost.
	Tree TreeOptions
	// TarballPath is a file of the host's to take instead of the store's blob.
	TarballPath string
	// DiffID is what the layer must hash to uncompressed.
	DiffID string
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

func (o *ExtractOptions) c(cancel *capi.Cancel) *capi.ExtractOptions {
	if o == nil {
		o = &ExtractOptions{}
	}
	return &capi.ExtractOptions{
		Call: call(cancel, o.Progress), Tree: *o.Tree.c(), TarballPath: o.TarballPath, DiffID: o.DiffID,
	}
}

func call(cancel *capi.Cancel, progress func(Progress) error) capi.Call {
	c := capi.Call{Cancel: cancel}
	if progress != nil {
		c.Progress = func(p capi.Progress) error { return progress(Progress(p)) }
	}
	return c
}

// Extraction is what an extraction came to.
type Extraction struct {
	Entries, BytesIn, BytesOut uint64
	Anomalies                  Anomalies
	// Cached: the layer was extracted before.
	Cached bool
	// DiffID is the digest of the layer uncompressed; "" where it is cached and not known.
	DiffID string
}

// ExtractLayer unpacks a layer, verified, once for all processes.
func (s *Storage) ExtractLayer(ctx context.Context, digest string, options *ExtractOptions) (result Extraction, err error) {
	if err := s.enter(); err != nil {
		return result, err
	}
	defer s.leave()
	err = within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) {
		r, err, cause := s.raw.ExtractLayer(digest, options.c(cancel))
		result = Extraction{r.Entries, r.BytesIn, r.BytesOut, Anomalies(r.Anomalies), r.Cached, r.DiffID}
		return err, cause
	})
	return result, err
}

// ExtractedPath is where ExtractLayer puts a layer's tree of this kind.
func (s *Storage) ExtractedPath(digest string, tree *TreeOptions) (string, error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	defer s.leave()
	path, err := s.raw.ExtractedPath(digest, tree.c())
	return path, of(err, nil)
}

// EntryKind is what an entry is.
type EntryKind uint32

// The kinds.
const (
	EntryFile EntryKind = iota + 1
	EntryDirectory
	EntrySymlink
	EntryHardlink
	EntryLowerLink
	EntryFIFO
	EntryCharDevice
	EntryBlockDevice
	EntryWhiteout
	EntryOpaque
)

// String is a word for the kind, as ls and find have it.
func (k EntryKind) String() string {
	names := [...]string{"end", "file", "directory", "symlink", "hardlink", "lower link", "fifo", "char device", "block device", "whiteout", "opaque"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Entry is what a layer says of a path, whoever may own the file in the tree.
type Entry struct {
	Kind EntryKind
	// Implied: a directory that has no entry of its own.
	Implied    bool
	Path, Link string
	// Mode has the bits of the type too.
	Mode                     fs.FileMode
	UID, GID                 uint32
	Mtime                    time.Time
	Size                     uint64
	DeviceMajor, DeviceMinor uint32
	Xattrs                   []Xattr
}

// LayerEntries lists the entries of an extracted layer, without a scan of its tree. Not for several goroutines at once.
type LayerEntries struct {
	guard
	raw *capi.Entries
}

// LayerEntries opens the list.
func (s *Storage) LayerEntries(digest string, tree *TreeOptions) (*LayerEntries, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	raw, err := s.raw.LayerEntries(digest, tree.c())
	if err != nil {
		return nil, of(err, nil)
	}
	return &LayerEntries{raw: raw}, nil
}

func fileMode(kind EntryKind, mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		c uint32
		m fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&bit.c != 0 {
			m |= bit.m
		}
	}
	switch kind {
	case EntryDirectory:
		m |= fs.ModeDir
	case EntrySymlink:
		m |= fs.ModeSymlink
	case EntryFIFO:
		m |= fs.ModeNamedPipe
	case EntryCharDevice:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case EntryBlockDevice:
		m |= fs.ModeDevice
	}
	return m
}

// Next gives the next entry, or io.EOF.
func (l *LayerEntries) Next() (*Entry, error) {
	if err := l.enter(); err != nil {
		return nil, err
	}
	defer l.leave()
	e, err := l.raw.Next()
	if err != nil {
		return nil, of(err, nil)
	}
	if e == nil {
		return nil, io.EOF
	}
	entry := &Entry{
		Kind: EntryKind(e.Kind), Implied: e.Flags&entryFlagImplied != 0, Path: e.Path, Link: e.Link, Mode: fileMode(EntryKind(e.Kind), e.Mode), UID: e.UID, GID: e.GID,
		Mtime: time.Unix(e.MtimeSeconds, int64(e.MtimeNanoseconds)), Size: e.Size, DeviceMajor: e.DeviceMajor, DeviceMinor: e.DeviceMinor,
	}
	for _, x := range e.Xattrs {
		entry.Xattrs = append(entry.Xattrs, Xattr(x))
	}
	return entry, nil
}

// Close lets the list go.
func (l *LayerEntries) Close() error { return l.close(func() { l.raw.Free() }) }
