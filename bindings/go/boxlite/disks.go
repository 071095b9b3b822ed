package boxlite

import (
	"context"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// DiskFormat is the file system of a disk.
type DiskFormat uint32

// The formats. This version writes EROFS alone.
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

// DiskOptions say what disk it is to be; nil and zero are the defaults, and the format is EROFS.
type DiskOptions struct {
	// Layout is what it is made of.
	Layout DiskLayout
	// Replace what has the destination's name. Strict refuses a layer with any anomaly.
	Replace, Strict bool
	// Label is the file system's, at most 15 bytes.
	Label string
	// UUID is the file system's; empty is one that is made of the layers and the options.
	UUID string
	// MaxMtimeSeconds since 1970 is what was modified later; 0 is not to change times.
	MaxMtimeSeconds int64
	// Limits are what each layer may cost.
	Limits *Limits
	// Progress ends the call where it gives an error.
	Progress func(Progress) error
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
	// Linux guest whose first virtio disk it is.
	FileSystem, UUID, Key, KernelArgs string
	// SizeBytes are the device's, AllocatedBytes those that its files take.
	SizeBytes, AllocatedBytes, Entries uint64
	// Anomalies are what was odd.
	Anomalies Anomalies
	// Parts are in the order of the device.
	Parts []DiskPart
}

// CreateDisk makes a read-only disk of an image that a guest mounts.
func (s *Storage) CreateDisk(ctx context.Context, image *Image, destination string, o *DiskOptions) (disk *Disk, err error) {
	if o == nil {
		o = &DiskOptions{}
	}
	err = s.withContext(ctx, image, func(cancel *capi.Cancel) (*capi.Error, error) {
		made, err, cause := s.raw.CreateDisk(image.raw, destination, &capi.DiskOptions{
			Call: call(cancel, o.Progress), Flags: flag(o.Replace, diskFlagReplace) | flag(o.Strict, diskFlagStrict),
			Format: uint32(DiskEROFS), Layout: uint32(o.Layout), Label: o.Label, UUID: o.UUID,
			MaxMtimeSeconds: o.MaxMtimeSeconds, Limits: (*capi.Limits)(o.Limits),
		})
		if err == nil {
			disk = &Disk{
				made.Path, made.Format, made.FileSystem, made.UUID, made.Key, made.KernelArgs,
				made.SizeBytes, made.AllocatedBytes, made.Entries, Anomalies(made.Anomalies), nil,
			}
			for _, part := range made.Parts {
				disk.Parts = append(disk.Parts, DiskPart(part))
			}
		}
		return err, cause
	})
	return disk, err
}
