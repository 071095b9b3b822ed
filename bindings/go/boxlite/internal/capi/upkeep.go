package capi

/*
#include "shim.h"
*/
import "C"

// GCResult is what a collection came to.
type GCResult struct{ Removed, Bytes, Kept uint64 }

// GC removes what nothing reaches.
func (s *Storage) GC(flags, minAge, maxDiskIdle uint64, cancel *Cancel, removed func(string) error) (GCResult, *Error, error) {
	handle, fate, free := callback(removed)
	defer free()
	c := C.bl_gc_options_init()
	c.flags = C.uint64_t(flags)
	c.min_age_seconds = C.uint64_t(minAge)
	c.max_disk_idle_seconds = C.uint64_t(maxDiskIdle)
	c.cancel = cancel.get()
	if handle != 0 {
		C.bl_go_set_removed(&c, handle)
	}
	out := C.bl_gc_result_init()
	var err *C.bl_error
	C.bl_gc(s.raw, &c, &out, &err)
	return GCResult{uint64(out.removed), uint64(out.bytes), uint64(out.kept)}, taken(err), fate()
}

// CheckResult is what a check came to.
type CheckResult struct{ Objects, Bytes, Skipped, Damaged, Missing, Quarantined uint64 }

// Check reads everything and compares it with what it should be.
func (s *Storage) Check(flags, rate uint64, cancel *Cancel, found func(Finding) error) (CheckResult, *Error, error) {
	handle, fate, free := callback(found)
	defer free()
	c := C.bl_check_options_init()
	c.flags = C.uint64_t(flags)
	c.bytes_per_second = C.uint64_t(rate)
	c.cancel = cancel.get()
	if handle != 0 {
		C.bl_go_set_finding(&c, handle)
	}
	out := C.bl_check_result_init()
	var err *C.bl_error
	C.bl_check(s.raw, &c, &out, &err)
	result := CheckResult{
		uint64(out.objects), uint64(out.bytes), uint64(out.skipped), uint64(out.damaged), uint64(out.missing),
		uint64(out.quarantined),
	}
	return result, taken(err), fate()
}

// DiskUsage is what the store has of each kind.
type DiskUsage struct {
	Manifests, ManifestBytes, Configs, ConfigBytes, Layers, LayerBytes, Trees, TreeBytes, Disks, DiskBytes, Partials, PartialBytes, Quarantined,
	QuarantinedBytes, FreeBytes, TotalBytes uint64
}

// DiskUsage asks for it.
func (s *Storage) DiskUsage() (DiskUsage, *Error) {
	c := C.bl_disk_usage_result_init()
	var err *C.bl_error
	if C.bl_disk_usage(s.raw, &c, &err) != C.BL_OK {
		return DiskUsage{}, taken(err)
	}
	return DiskUsage{
		uint64(c.manifests), uint64(c.manifest_bytes), uint64(c.configs), uint64(c.config_bytes), uint64(c.layers),
		uint64(c.layer_bytes), uint64(c.trees), uint64(c.tree_bytes), uint64(c.disks), uint64(c.disk_bytes), uint64(c.partials), uint64(c.partial_bytes),
		uint64(c.quarantined), uint64(c.quarantined_bytes), uint64(c.free_bytes), uint64(c.total_bytes),
	}, nil
}
