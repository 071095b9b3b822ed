package boxlite

import (
	"context"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// GCOptions say what to collect; nil and zero are the defaults.
type GCOptions struct {
	// DryRun: only say what would be removed.
	DryRun bool
	// MinAge: what is younger stays; 0 is an hour. AnyAge: nothing stays for its age.
	MinAge time.Duration
	AnyAge bool
	// MaxDiskIdle: disks that KeepDisk was not asked for in this time go too; 0 is to keep them.
	MaxDiskIdle time.Duration
	// Removed is told each object.
	Removed func(object string)
}

// GCResult is what a collection came to.
type GCResult struct{ Removed, Bytes, Kept uint64 }

// GC removes what no name and no lease reaches.
func (s *Storage) GC(ctx context.Context, o *GCOptions) (result GCResult, err error) {
	if o == nil {
		o = &GCOptions{}
	}
	if err := s.enter(); err != nil {
		return result, err
	}
	defer s.leave()
	var removed func(string) error
	if o.Removed != nil {
		removed = func(object string) error {
			o.Removed(object)
			return nil
		}
	}
	err = within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) {
		r, err, cause := s.raw.GC(flag(o.DryRun, gcDryRun)|flag(o.AnyAge, gcAnyAge), seconds(o.MinAge), seconds(o.MaxDiskIdle), cancel, removed)
		result = GCResult(r)
		return orCallback(err, cause)
	})
	return result, err
}

// orCallback makes an error of a callback's panic that C has not been told of.
func orCallback(err *capi.Error, cause error) (*capi.Error, error) {
	if err == nil && cause != nil {
		err = &capi.Error{Status: int32(ErrCallback), Message: cause.Error()}
	}
	return err, cause
}

// Problem is what is wrong with an object.
type Problem uint32

// The problems.
const (
	Damaged Problem = iota + 1
	Missing
)

// Finding is something that is not as it should be.
type Finding struct {
	Object, Message string
	Problem         Problem
	// Quarantined: it was moved away.
	Quarantined bool
}

// CheckOptions say how to check; nil and zero are the defaults.
type CheckOptions struct {
	// Repair: move what is damaged to quarantine. SkipTrees: look at no extracted layer.
	Repair, SkipTrees bool
	// BytesPerSecond is the most that is read; 0 is no limit.
	BytesPerSecond uint64
	// Found is told each finding.
	Found func(Finding)
}

// CheckResult is what a check came to.
type CheckResult struct{ Objects, Bytes, Skipped, Damaged, Missing, Quarantined uint64 }

// Check reads everything and compares it with what it should be.
func (s *Storage) Check(ctx context.Context, o *CheckOptions) (result CheckResult, err error) {
	if o == nil {
		o = &CheckOptions{}
	}
	if err := s.enter(); err != nil {
		return result, err
	}
	defer s.leave()
	var found func(capi.Finding) error
	if o.Found != nil {
		found = func(f capi.Finding) error {
			o.Found(Finding{f.Object, f.Message, Problem(f.Problem), f.Quarantined})
			return nil
		}
	}
	err = within(ctx, func(cancel *capi.Cancel) (*capi.Error, error) {
		r, err, cause := s.raw.Check(flag(o.Repair, checkRepair)|flag(o.SkipTrees, checkSkipTrees), o.BytesPerSecond, cancel, found)
		result = CheckResult(r)
		return orCallback(err, cause)
	})
	return result, err
}

// DiskUsage is what the store has of each kind, and what its file system has.
type DiskUsage struct {
	Manifests, ManifestBytes, Configs, ConfigBytes, Layers, LayerBytes, Trees, TreeBytes, Disks, DiskBytes, Partials, PartialBytes, Quarantined,
	QuarantinedBytes, FreeBytes, TotalBytes uint64
}

// DiskUsage says how much room the store takes.
func (s *Storage) DiskUsage() (DiskUsage, error) {
	if err := s.enter(); err != nil {
		return DiskUsage{}, err
	}
	defer s.leave()
	usage, err := s.raw.DiskUsage()
	return DiskUsage(usage), of(err, nil)
}
