package boxlite

import (
	"context"
	"os"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// Image is an open image: its manifest and config, verified.
type Image struct {
	guard
	raw *capi.Image
	// What it says of itself; see ImageInfo.
	info ImageInfo
}

// ImageInfo is what an image says of itself.
type ImageInfo struct {
	// Name and FamiliarName are "" where it was opened by its digest.
	Name, FamiliarName          string
	ManifestDigest, IndexDigest string
	ConfigDigest, ConfigJSON    string
	Created                     string
	OS, Architecture, Variant   string
	Entrypoint, Cmd, Env        []string
	WorkingDir, User            string
	StopSignal                  string
	ExposedPorts, Volumes       []string
	Labels                      map[string]string
	// Layers, the lowest first.
	Layers []ImageLayer
	// Missing are the blobs that the store does not have.
	Missing []string
}

// ImageLayer is one of an image's layers.
type ImageLayer struct {
	Digest, DiffID, MediaType string
	Size                      uint64
}

func opened(raw *capi.Image) (*Image, error) {
	one := func(field uint32) string {
		for _, text := range raw.Texts(field) {
			return text
		}
		return ""
	}
	info := ImageInfo{
		Name: one(imageName), FamiliarName: one(imageFamiliarName), ManifestDigest: one(imageManifestDigest), IndexDigest: one(imageIndexDigest), ConfigDigest: one(imageConfigDigest),
		ConfigJSON: one(imageConfigJSON), Created: one(imageCreated), OS: one(imageOS), Architecture: one(imageArchitecture), Variant: one(imageVariant), Entrypoint: raw.Texts(imageEntrypoint),
		Cmd: raw.Texts(imageCmd), Env: raw.Texts(imageEnv), WorkingDir: one(imageWorkingDir), User: one(imageUser), StopSignal: one(imageStopSignal),
		ExposedPorts: raw.Texts(imageExposedPort), Volumes: raw.Texts(imageVolume), Missing: raw.Texts(imageMissing), Labels: map[string]string{},
	}
	values := raw.Texts(imageLabelValue)
	for i, key := range raw.Texts(imageLabelKey) {
		if i < len(values) {
			info.Labels[key] = values[i]
		}
	}
	layers, err := raw.Layers()
	if err != nil {
		raw.Free()
		return nil, of(err, nil)
	}
	for _, layer := range layers {
		info.Layers = append(info.Layers, ImageLayer(layer))
	}
	return &Image{raw: raw, info: info}, nil
}

// Info is what the image says of itself; also when it is closed.
func (i *Image) Info() ImageInfo { return i.info }

// Close lets the image go.
func (i *Image) Close() error { return i.close(func() { i.raw.Free() }) }

// OpenImage opens an image by its name, or its manifest's digest.
func (s *Storage) OpenImage(name string) (*Image, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	raw, err := s.raw.OpenImage(name)
	if err != nil {
		return nil, of(err, nil)
	}
	return opened(raw)
}

// Images lists the names of all images.
func (s *Storage) Images() ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	names, err := s.raw.Images()
	return names, of(err, nil)
}

// TagImage gives a complete image a name, which another may have had.
func (s *Storage) TagImage(name, manifestDigest string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return of(s.raw.TagImage(name, manifestDigest), nil)
}

// RemoveImage takes a name away. What nothing else reaches goes with the next collection.
func (s *Storage) RemoveImage(name string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return of(s.raw.RemoveImage(name), nil)
}

// ImageUsage is how much room an image takes.
type ImageUsage struct {
	Tagged, LastUsed                                          time.Time
	CompressedBytes, ExtractedBytes, SharedBytes, UniqueBytes uint64
}

// ImageUsage says how much room an image takes, and how much of that others share.
func (s *Storage) ImageUsage(image *Image) (ImageUsage, error) {
	var usage ImageUsage
	err := s.withContext(context.Background(), image, func(*capi.Cancel) (*capi.Error, error) {
		u, err := s.raw.ImageUsage(image.raw)
		usage = ImageUsage{time.Unix(u.TaggedSeconds, 0), time.Unix(u.LastUsedSeconds, 0), u.CompressedBytes, u.ExtractedBytes, u.SharedBytes, u.UniqueBytes}
		return err, nil
	})
	return usage, err
}

// Process is what a guest's init starts.
type Process struct {
	Args, Env             []string
	Cwd, Home, StopSignal string
	UID, GID              uint32
	AdditionalGIDs        []uint32
	// RuntimeJSON is the process object of an OCI runtime configuration.
	RuntimeJSON string
}

// Process resolves the image's config; rootfs is its assembled root file system, in which users are looked up.
func (i *Image) Process(rootfs string) (*Process, error) {
	if err := i.enter(); err != nil {
		return nil, err
	}
	defer i.leave()
	p, err := i.raw.Process(rootfs)
	return newProcess(p, err)
}

// Process resolves an image's config where its layers are disks, in which users are looked up.
func (s *Storage) Process(image *Image) (process *Process, err error) {
	err = s.withContext(context.Background(), image, func(*capi.Cancel) (*capi.Error, error) {
		p, err := s.raw.Process(image.raw)
		if err == nil {
			process, _ = newProcess(p, nil)
		}
		return err, nil
	})
	return process, err
}

func newProcess(p *capi.Process, err *capi.Error) (*Process, error) {
	if err != nil {
		return nil, of(err, nil)
	}
	return &Process{p.Args, p.Env, p.Cwd, p.Home, p.StopSignal, p.UID, p.GID, p.AdditionalGIDs, p.RuntimeJSON}, nil
}

// ImportOptions say how to import; nil and zero are the defaults.
type ImportOptions struct {
	// Select takes one image, by its name or tag; Name gives it another; Platform is like "linux/arm64/v8".
	Select, Name, Platform string
	// NoUnpack stores the layers only.
	NoUnpack bool
	// StrictPlatform takes no variant below the one that is wanted.
	StrictPlatform bool
	// HardLink: layers of a folder may be its own files.
	HardLink bool
	// Tree is what the trees look like, and what each layer and the archive may cost.
	Tree TreeOptions
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

func (o *ImportOptions) c(cancel *capi.Cancel) *capi.ImportOptions {
	if o == nil {
		o = &ImportOptions{}
	}
	return &capi.ImportOptions{
		Call: call(cancel, o.Progress), Tree: *o.Tree.c(),
		Flags: flag(o.NoUnpack, importNoUnpack) | flag(o.StrictPlatform, importStrictPlatform) |
			flag(o.HardLink, importHardLink),
		Select: o.Select, Name: o.Name, Platform: o.Platform,
	}
}

// Import stores the images of an OCI layout or an archive and gives what OpenImage takes for each.
func (s *Storage) Import(ctx context.Context, path string, options *ImportOptions) ([]string, error) {
	if path == "" {
		return nil, &Error{Status: ErrInvalidArgument, Message: "path is empty"}
	}
	return s.importing(ctx, path, 0, options)
}

// ImportFile does so from an archive that is open: a file, a pipe or a socket. The file stays the caller's.
func (s *Storage) ImportFile(ctx context.Context, file *os.File, options *ImportOptions) (names []string, err error) {
	err = controlled(file, func(fd uintptr) error {
		names, err = s.importing(ctx, "", fd, options)
		return err
	})
	return names, err
}

func (s *Storage) importing(ctx context.Context, path string, fd uintptr, options *ImportOptions) (names []string, err error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	err = within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) {
		found, err, cause := s.raw.Import(path, fd, options.c(cancel))
		names = found
		return err, cause
	})
	return names, err
}

// controlled keeps a file open as long as its descriptor is used.
func controlled(file *os.File, use func(fd uintptr) error) error {
	if file == nil {
		return &Error{Status: ErrInvalidArgument, Message: "file is nil"}
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = use(fd) }); err != nil {
		return err
	}
	return failed
}

// OpenBundle opens one image of a layout's folder where it is: what it gives is a store with the image in it, and what its
// OpenImage takes.
func (s *Storage) OpenBundle(ctx context.Context, path string, options *ImportOptions) (bundle *Storage, names []string, err error) {
	if err := s.enter(); err != nil {
		return nil, nil, err
	}
	defer s.leave()
	err = within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) {
		raw, found, err, cause := s.raw.OpenBundle(path, options.c(cancel))
		if err == nil {
			bundle, names = &Storage{raw: raw}, found
		}
		return err, cause
	})
	return bundle, names, err
}

// ExportOptions say how to export; nil and zero are the defaults.
type ExportOptions struct {
	// Folder: an OCI layout in a folder, and not an archive. Replace what is there.
	Folder, Replace bool
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

// Export writes images into a file or a folder.
func (s *Storage) Export(ctx context.Context, path string, options *ExportOptions, images ...*Image) error {
	if path == "" {
		return &Error{Status: ErrInvalidArgument, Message: "path is empty"}
	}
	return s.export(ctx, path, 0, options, images)
}

// ExportFile writes an archive into a file or a pipe.
func (s *Storage) ExportFile(ctx context.Context, file *os.File, options *ExportOptions, images ...*Image) error {
	return controlled(file, func(fd uintptr) error { return s.export(ctx, "", fd, options, images) })
}

func (s *Storage) export(ctx context.Context, path string, fd uintptr, o *ExportOptions, images []*Image) error {
	if o == nil {
		o = &ExportOptions{}
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	var raw []*capi.Image
	for _, image := range images {
		if image == nil {
			return &Error{Status: ErrInvalidArgument, Message: "an image is nil"}
		}
		if err := image.enter(); err != nil {
			return err
		}
		defer image.leave()
		raw = append(raw, image.raw)
	}
	return within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) {
		c := call(cancel, o.Progress)
		return s.raw.Export(raw, path, fd, flag(o.Folder, exportFolder)|flag(o.Replace, exportReplace), &c)
	})
}

// RootfsMode is where a root file system's files come from.
type RootfsMode uint32

// The modes.
const (
	RootfsCopy RootfsMode = iota
	RootfsReflink
	RootfsHardlink
	RootfsDirect
)

// RootfsOptions say how to assemble; nil and zero are the defaults.
type RootfsOptions struct {
	// Mode is how files come into it.
	Mode RootfsMode
	// Replace a destination that is not empty.
	Replace bool
	// IntoExisting fills a directory that is there, as is done with a mount point.
	IntoExisting bool
	// RecordPath is where the metadata record goes.
	RecordPath string
	// Tree is how devices and owners are said, and what each layer may cost.
	Tree TreeOptions
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

// Rootfs is what an assembly came to.
type Rootfs struct {
	Layers, Entries uint64
	Anomalies       Anomalies
}

// AssembleRootfs puts an image's layers on top of each other in a directory.
func (s *Storage) AssembleRootfs(ctx context.Context, image *Image, destination string, o *RootfsOptions) (result Rootfs, err error) {
	if o == nil {
		o = &RootfsOptions{}
	}
	err = s.withContext(ctx, image, func(cancel *capi.Cancel) (*capi.Error, error) {
		r, err, cause := s.raw.AssembleRootfs(image.raw, destination, &capi.RootfsOptions{
			Call: call(cancel, o.Progress), Tree: *o.Tree.c(), Mode: uint32(o.Mode), RecordPath: o.RecordPath,
			Flags: flag(o.Replace, rootfsReplace) | flag(o.IntoExisting, rootfsIntoExisting),
		})
		result = Rootfs{r.Layers, r.Entries, Anomalies(r.Anomalies)}
		return err, cause
	})
	return result, err
}

// withContext runs a call while both are open, and until the context is done.
func (s *Storage) withContext(ctx context.Context, image *Image, call func(*capi.Cancel) (*capi.Error, error)) error {
	if image == nil {
		return &Error{Status: ErrInvalidArgument, Message: "image is nil"}
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := image.enter(); err != nil {
		return err
	}
	defer image.leave()
	return within(ctx, call)
}

// OverlayOptions say what the lower directories of an overlay mount are like; nil and zero are the defaults.
type OverlayOptions struct {
	// Tree is what they look like. Its whiteouts are WhiteoutUserOverlay for a mount with userxattr; anything else is
	// WhiteoutOverlay.
	Tree TreeOptions
	// LeaseTime is how long the layers are held; 0 is a day.
	LeaseTime time.Duration
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

// Overlay is what an overlay mount needs.
type Overlay struct {
	// MountOptions begin with "lowerdir="; relative to MountDir, unless that is empty.
	MountOptions string
	// MountDir is the directory to mount from; empty where the options have absolute paths. os.Chdir is of all
	// goroutines: start a process for the mount, with MountDir as its Dir.
	MountDir string
	// LowerDirs are absolute, the uppermost first; for fsconfig(2).
	LowerDirs []string
	// Lease holds the layers: extend it as long as they are mounted, and release it after that.
	Lease *Lease
}

// PrepareOverlay extracts an image's layers for an overlay mount.
func (s *Storage) PrepareOverlay(ctx context.Context, image *Image, o *OverlayOptions) (overlay *Overlay, err error) {
	if o == nil {
		o = &OverlayOptions{}
	}
	err = s.withContext(ctx, image, func(cancel *capi.Cancel) (*capi.Error, error) {
		c := call(cancel, o.Progress)
		made, raw, err, cause := s.raw.PrepareOverlay(image.raw, o.Tree.c(), seconds(o.LeaseTime), &c)
		if err == nil {
			overlay = &Overlay{made.MountOptions, made.MountDir, made.LowerDirs, &Lease{raw: raw, id: raw.ID()}}
		}
		return err, cause
	})
	return overlay, err
}
