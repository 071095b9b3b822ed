package boxlite

import (
	"context"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// DiskFormat is the file system of a disk.
type DiskFormat uint32

// The formats: ext4, which every Linux guest mounts; and EROFS, read-only, for Linux 5.4 or newer.
const (
	DiskEXT4 DiskFormat = iota
	DiskEROFS
)

// DiskLayout is what a disk is made of.
type DiskLayout uint32

// The layouts: one raw file; or a directory with metadata, the layers' own disks and a VMDK descriptor.
const (
	DiskFlat DiskLayout = iota
	DiskMerged
)

// DiskOptions say what disk it is to be; nil and zero are the defaults.
type DiskOptions struct {
	// Format is the file system.
	Format DiskFormat
	// Layout is what it is made of; DiskMerged is for DiskEROFS.
	Layout DiskLayout
	// Replace what has the destination's name. Strict refuses a layer with any anomaly. Direct leaves no disks of layers in the
	// store that are not there yet.
	Replace, Strict, Direct bool
	// SizeBytes of an ext4, or zero for what it needs; FreeBytes and FreeInodes are to be free in it.
	SizeBytes, FreeBytes, FreeInodes uint64
	// Journal is for guests that write; JournalBytes are as many as mke2fs takes, if zero. Growable can grow while it is mounted.
	Journal, Growable bool
	JournalBytes      uint64
	// TopLayer is an archive that goes on top of the image as a layer would. Files go on top of that.
	TopLayer string
	Files    []DiskFile
	// Verity puts hashes of all blocks behind the file system, for dm-verity.
	Verity bool
	// Label is the file system's, at most 16 bytes in ext4 and 15 in EROFS.
	Label string
	// UUID is the file system's; empty is one that is made of the layers and the options.
	UUID string
	// MaxMtimeSeconds since 1970 is what was modified later; 0 is not to change times.
	MaxMtimeSeconds int64
	// LeaseTime is how long KeepDisk's lease holds the disk; 0 is a day.
	LeaseTime time.Duration
	// Limits are what each layer may cost.
	Limits *Limits
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
}

// DiskFileKind is what a DiskFile is.
type DiskFileKind uint32

// The kinds: a file; a directory, in which everything stays that the image has there; a symlink.
const (
	DiskFileRegular DiskFileKind = iota
	DiskFileDirectory
	DiskFileSymlink
)

// DiskFile is something that a disk has on top of its image.
type DiskFile struct {
	// Path is where in the image. It leads through the image's symlinks and never out.
	Path string
	// Kind is what it is.
	Kind DiskFileKind
	// Source is a file of the host's whose content it gets; otherwise it gets Data. Target is where a symlink leads to.
	Source string
	Data   []byte
	Target string
	// Mode is 0644, and 0755 of a directory, if it is 0.
	Mode, UID, GID uint32
	// MtimeSeconds since 1970 is when it was modified.
	MtimeSeconds uint64
}

// DiskPart is a file of a disk: where on the device it begins, and how much of that it has.
type DiskPart struct {
	Path                     string
	OffsetBytes, LengthBytes uint64
}

// Disk is what was made.
type Disk struct {
	// Path is the file to attach. Format is what a VMM calls it: "raw" or "vmdk".
	Path, Format string
	// FileSystem is what mount(2) calls it. Key is a digest of everything that the disk's bytes depend on. KernelArgs are for a
	// Linux guest whose first virtio disk it is; empty for an empty disk.
	FileSystem, UUID, Key, KernelArgs string
	// RootHash and VerityTable are what a guest verifies it by; empty without DiskOptions.Verity.
	RootHash, VerityTable string
	// SizeBytes are the device's, AllocatedBytes those that its files take.
	SizeBytes, AllocatedBytes, Entries uint64
	// Anomalies are what was odd.
	Anomalies Anomalies
	// Cached: the store kept it already.
	Cached bool
	// Parts are in the order of the device.
	Parts []DiskPart
}

// KeptDisk is a disk that the store keeps.
type KeptDisk struct {
	Disk
	// Lease holds it: to be extended as long as a guest has the disk, and released after that.
	Lease *Lease
}

func (o *DiskOptions) c(cancel *capi.Cancel) *capi.DiskOptions {
	var files []capi.DiskFile
	for _, f := range o.Files {
		files = append(files, capi.DiskFile{
			Kind: uint32(f.Kind), Mode: f.Mode, UID: f.UID, GID: f.GID, MtimeSeconds: f.MtimeSeconds,
			Path: f.Path, Source: f.Source, Target: f.Target, Data: f.Data,
		})
	}
	return &capi.DiskOptions{
		TopLayer: o.TopLayer, Files: files,
		Call: call(cancel, o.Progress),
		Flags: flag(o.Replace, diskFlagReplace) | flag(o.Strict, diskFlagStrict) | flag(o.Direct, diskFlagDirect) |
			flag(o.Journal, diskFlagJournal) | flag(o.Growable, diskFlagGrowable) | flag(o.Verity, diskFlagVerity),
		SizeBytes: o.SizeBytes, FreeBytes: o.FreeBytes, FreeInodes: o.FreeInodes, JournalBytes: o.JournalBytes,
		Format: uint32(o.Format), Layout: uint32(o.Layout), Label: o.Label, UUID: o.UUID,
		MaxMtimeSeconds: o.MaxMtimeSeconds, LeaseSeconds: seconds(o.LeaseTime), Limits: (*capi.Limits)(o.Limits),
	}
}

func newDisk(made capi.Disk) Disk {
	disk := Disk{
		made.Path, made.Format, made.FileSystem, made.UUID, made.Key, made.KernelArgs, made.RootHash, made.VerityTable,
		made.SizeBytes, made.AllocatedBytes, made.Entries, Anomalies(made.Anomalies), made.Cached, nil,
	}
	for _, part := range made.Parts {
		disk.Parts = append(disk.Parts, DiskPart(part))
	}
	return disk
}

// CreateDisk makes a disk of an image that a guest mounts.
func (s *Storage) CreateDisk(ctx context.Context, image *Image, destination string, o *DiskOptions) (disk *Disk, err error) {
	if o == nil {
		o = &DiskOptions{}
	}
	err = s.withContext(ctx, image, func(cancel *capi.Cancel) (*capi.Error, error) {
		made, err, cause := s.raw.CreateDisk(image.raw, destination, o.c(cancel))
		if err == nil {
			found := newDisk(made)
			disk = &found
		}
		return err, cause
	})
	return disk, err
}

// FormatDisk makes an ext4 without content: a scratch disk or, if image is not nil, the writable layer over a disk of it, with
// the directories upper and work. The options say its size.
func (s *Storage) FormatDisk(ctx context.Context, image *Image, destination string, o *DiskOptions) (disk *Disk, err error) {
	if o == nil {
		o = &DiskOptions{}
	}
	format := func(cancel *capi.Cancel) (*capi.Error, error) {
		var raw *capi.Image
		if image != nil {
			raw = image.raw
		}
		made, err, cause := s.raw.FormatDisk(raw, destination, o.c(cancel))
		if err == nil {
			found := newDisk(made)
			disk = &found
		}
		return err, cause
	}
	if image != nil {
		err = s.withContext(ctx, image, format)
		return disk, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	err = within(ctx, format)
	return disk, err
}

// KeepDisk makes it in the store, which keeps it; one that is there is found again.
func (s *Storage) KeepDisk(ctx context.Context, image *Image, o *DiskOptions) (disk *KeptDisk, err error) {
	if o == nil {
		o = &DiskOptions{}
	}
	err = s.withContext(ctx, image, func(cancel *capi.Cancel) (*capi.Error, error) {
		made, raw, err, cause := s.raw.KeepDisk(image.raw, o.c(cancel))
		if err == nil {
			disk = &KeptDisk{newDisk(made), &Lease{raw: raw, id: raw.ID()}}
		}
		return err, cause
	})
	return disk, err
}
