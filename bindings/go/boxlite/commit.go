package boxlite

import (
	"context"
	"sort"
	"strings"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// CommitKind is what a CommitSource is.
type CommitKind uint32

// The kinds: the upper directory of an overlay, in which nobody writes any more; a directory with all of the image, which is
// compared with what the base's records say; the archive of a layer, in a file or a pipe.
const (
	CommitUpper CommitKind = iota
	CommitTree
	CommitArchive
)

// CommitSource is what was changed.
type CommitSource struct {
	Kind CommitKind
	Path string
}

// Compression is how a layer is stored.
type Compression uint32

// The compressions. The default is zstd, and gzip on a base with Docker's media types, which have no zstd.
const (
	CompressionDefault Compression = iota
	CompressionZstd
	CompressionGzip
	CompressionNone
)

// ConfigChanges are what a config is to say otherwise. What is nil, or empty, stays.
type ConfigChanges struct {
	// Entrypoint is the command's first words, Cmd the arguments; an empty list is none.
	Entrypoint, Cmd *[]string
	// Env are variables as "NAME=value", in place of those of the same name; UnsetEnv are names of those that go.
	Env, UnsetEnv []string
	// Labels take the place of those of the same key; UnsetLabels are keys of those that go.
	Labels      map[string]string
	UnsetLabels []string
	// ExposedPorts, as "8080/tcp", and Volumes are further ones.
	ExposedPorts, Volumes        []string
	WorkingDir, User, StopSignal *string
}

// CommitOptions say how to make an image of another one; nil and zero are the defaults.
type CommitOptions struct {
	// Name is what it is called; without one a collection may take it, unless a lease holds it.
	Name string
	// Compression and Level are of the layer; level 0 is 3 for zstd, and 6 for gzip.
	Compression Compression
	Level       int
	// Epoch is when it was made, and the latest time of any file: the same changes are the same image then. nil is now.
	Epoch *time.Time
	// Author made it; Message and CreatedBy are for the history.
	Author, Message, CreatedBy string
	// Config is what the config says otherwise, Annotations what the manifest says besides.
	Config      ConfigChanges
	Annotations map[string]string
	// CompareContent reads the files of a tree that look as they were, too.
	CompareContent bool
	// CrossFileSystems goes into others that are mounted below. UserXattr is for overlays that were mounted with `userxattr`.
	CrossFileSystems, UserXattr bool
	// Extract, if it is given, has the new layer extracted too, in this form, so that what is started next need not wait for
	// that. Its files share the source's blocks where the file system can.
	Extract *TreeOptions
	// Limits are what the layer may cost.
	Limits *Limits
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

// CommittedImage is an image that was made of another one. It is to be closed.
type CommittedImage struct {
	*Image
	// Entries are those of its new layer. Sockets, and directories on which another file system is mounted, were left out of it.
	Entries, Sockets, OtherFileSystems uint64
}

// pairs are "key=value". A key that would be another one is passed as an empty one, which is refused.
func pairs(of map[string]string) []string {
	var all []string
	for key, value := range of {
		if strings.Contains(key, "=") {
			key = ""
		}
		all = append(all, key+"="+value)
	}
	sort.Strings(all)
	return all
}

func (o *CommitOptions) c(cancel *capi.Cancel) *capi.CommitOptions {
	var epoch int64
	if o.Epoch != nil {
		epoch = o.Epoch.Unix()
	}
	n := o.Config
	var extract *capi.TreeOptions
	if o.Extract != nil {
		extract = o.Extract.c()
	}
	return &capi.CommitOptions{
		Call: call(cancel, o.Progress),
		Flags: flag(o.Epoch != nil, commitFlagEpoch) | flag(o.CrossFileSystems, commitFlagCrossFileSystems) |
			flag(o.UserXattr, commitFlagUserxattr) | flag(o.CompareContent, commitFlagCompareContent),
		Name: o.Name, Compression: uint32(o.Compression), Level: int32(o.Level), EpochSeconds: epoch,
		Author: o.Author, Message: o.Message, CreatedBy: o.CreatedBy,
		Changes: capi.ConfigChanges{
			Entrypoint: n.Entrypoint, Cmd: n.Cmd, Env: n.Env, UnsetEnv: n.UnsetEnv, Labels: pairs(n.Labels), UnsetLabels: n.UnsetLabels,
			ExposedPorts: n.ExposedPorts, Volumes: n.Volumes, WorkingDir: n.WorkingDir, User: n.User, StopSignal: n.StopSignal,
		},
		Annotations: pairs(o.Annotations), Extract: extract, Limits: (*capi.Limits)(o.Limits),
	}
}

// committed makes an image of another one, or of none.
func (s *Storage) committed(ctx context.Context, base *Image, o *CommitOptions,
	commit func(*capi.Image, *capi.CommitOptions) (*capi.Image, capi.CommitCounts, *capi.Error, error)) (*CommittedImage, error) {
	if o == nil {
		o = &CommitOptions{}
	}
	var below, made *capi.Image
	var n capi.CommitCounts
	if base != nil {
		below = base.raw
	}
	do := func(cancel *capi.Cancel) (err *capi.Error, cause error) {
		made, n, err, cause = commit(below, o.c(cancel))
		return err, cause
	}
	var err error
	if base != nil {
		err = s.withContext(ctx, base, do)
	} else if err = s.enter(); err == nil {
		defer s.leave()
		err = within(ctx, do)
	}
	if err != nil {
		return nil, err
	}
	image, err := opened(made)
	if err != nil {
		return nil, err
	}
	return &CommittedImage{image, n.Entries, n.Sockets, n.OtherFileSystems}, nil
}

// CommitImage makes an image of what was changed: the base's layers, and one layer more. The base may be nil.
func (s *Storage) CommitImage(ctx context.Context, base *Image, source CommitSource, o *CommitOptions) (*CommittedImage, error) {
	return s.committed(ctx, base, o, func(raw *capi.Image, c *capi.CommitOptions) (*capi.Image, capi.CommitCounts, *capi.Error, error) {
		return s.raw.CommitImage(raw, uint32(source.Kind), source.Path, c)
	})
}

// SquashImage makes one layer of all from one on, counted from 0 at the bottom.
func (s *Storage) SquashImage(ctx context.Context, image *Image, from int, o *CommitOptions) (*CommittedImage, error) {
	return s.committed(ctx, image, o, func(raw *capi.Image, c *capi.CommitOptions) (*capi.Image, capi.CommitCounts, *capi.Error, error) {
		return s.raw.SquashImage(raw, from, c)
	})
}

// EditImage makes an image with the same layers, and another config or annotations.
func (s *Storage) EditImage(ctx context.Context, image *Image, o *CommitOptions) (*CommittedImage, error) {
	return s.committed(ctx, image, o, s.raw.EditImage)
}
