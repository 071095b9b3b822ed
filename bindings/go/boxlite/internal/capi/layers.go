package capi

/*
#include "shim.h"
*/
import "C"

import "unsafe"

// Limits are those of C, by its names; 0 is the default.
type Limits struct {
	LayerBytes, CompressionRatio, Entries, NameComponentBytes, PathDepth, PathBytes, HeaderMetadataBytes, StackedHeaders,
	SparseChunks, SymlinkTargetBytes, SymlinkHops, SymlinkSteps, DirectorySteps, XattrValueBytes, Xattrs, XattrsBytes, KeptMetadataBytes,
	RecordBytes, ZstdWindowLog uint64
}

func (a *arena) limits(l *Limits) *C.bl_layer_limits {
	if l == nil {
		return nil
	}
	c := (*C.bl_layer_limits)(a.alloc(unsafe.Sizeof(C.bl_layer_limits{})))
	*c = C.bl_layer_limits_init()
	c.layer_bytes = C.uint64_t(l.LayerBytes)
	c.compression_ratio = C.uint64_t(l.CompressionRatio)
	c.entries = C.uint64_t(l.Entries)
	c.name_component_bytes = C.uint64_t(l.NameComponentBytes)
	c.path_depth = C.uint64_t(l.PathDepth)
	c.path_bytes = C.uint64_t(l.PathBytes)
	c.header_metadata_bytes = C.uint64_t(l.HeaderMetadataBytes)
	c.stacked_headers = C.uint64_t(l.StackedHeaders)
	c.sparse_chunks = C.uint64_t(l.SparseChunks)
	c.symlink_target_bytes = C.uint64_t(l.SymlinkTargetBytes)
	c.symlink_hops = C.uint64_t(l.SymlinkHops)
	c.symlink_steps = C.uint64_t(l.SymlinkSteps)
	c.directory_steps = C.uint64_t(l.DirectorySteps)
	c.xattr_value_bytes = C.uint64_t(l.XattrValueBytes)
	c.xattrs = C.uint64_t(l.Xattrs)
	c.xattrs_bytes = C.uint64_t(l.XattrsBytes)
	c.kept_metadata_bytes = C.uint64_t(l.KeptMetadataBytes)
	c.record_bytes = C.uint64_t(l.RecordBytes)
	c.zstd_window_log = C.uint64_t(l.ZstdWindowLog)
	return c
}

// TreeOptions are those of C.
type TreeOptions struct {
	Flags           uint64
	Whiteouts, Form uint32
	Limits          *Limits
}

func (a *arena) tree(o *TreeOptions) *C.bl_tree_options {
	c := (*C.bl_tree_options)(a.alloc(unsafe.Sizeof(C.bl_tree_options{})))
	*c = C.bl_tree_options_init()
	c.flags = C.uint64_t(o.Flags)
	c.whiteouts = C.uint32_t(o.Whiteouts)
	c.form = C.uint32_t(o.Form)
	c.limits = a.limits(o.Limits)
	return c
}

// Call is what most calls can have.
type Call struct {
	Cancel   *Cancel
	Progress func(Progress) error
}

// ExtractOptions are those of C.
type ExtractOptions struct {
	Call
	Tree                TreeOptions
	TarballPath, DiffID string
}

func (a *arena) extract(o *ExtractOptions, handle C.uintptr_t) *C.bl_extract_options {
	c := (*C.bl_extract_options)(a.alloc(unsafe.Sizeof(C.bl_extract_options{})))
	*c = C.bl_extract_options_init()
	c.tree = a.tree(&o.Tree)
	c.tarball_path = a.str(o.TarballPath)
	c.diff_id = a.str(o.DiffID)
	c.cancel = o.Cancel.get()
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	return c
}

// Extraction is what an extraction came to.
type Extraction struct {
	Entries, BytesIn, BytesOut, Anomalies uint64
	Cached                                bool
	DiffID                                string
}

// ExtractLayer unpacks a layer. The second error is the callback's.
func (s *Storage) ExtractLayer(digest string, o *ExtractOptions) (Extraction, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	out := C.bl_extract_result_init()
	var err *C.bl_error
	if C.bl_extract_layer(s.raw, a.must(digest), a.extract(o, handle), &out, &err) != C.BL_OK {
		return Extraction{}, taken(err), fate()
	}
	return Extraction{
		uint64(out.entries), uint64(out.bytes_in), uint64(out.bytes_out), uint64(out.anomalies), out.cached != 0,
		C.GoString(&out.diff_id[0]),
	}, nil, nil
}

// ExtractedPath is where ExtractLayer puts a layer's tree of this kind.
func (s *Storage) ExtractedPath(digest string, o *TreeOptions) (string, *Error) {
	var a arena
	defer a.free()
	var out *C.bl_bytes
	var err *C.bl_error
	if C.bl_extracted_path(s.raw, a.must(digest), a.tree(o), &out, &err) != C.BL_OK {
		return "", taken(err)
	}
	return string(bytesOf(out)), nil
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Entry is one entry of a layer.
type Entry struct {
	Kind, Flags, Mode, UID, GID, MtimeNanoseconds, DeviceMajor, DeviceMinor uint32
	Path, Link                                                              string
	MtimeSeconds                                                            int64
	Size                                                                    uint64
	Xattrs                                                                  []Xattr
}

// Entries are the entries of a layer.
type Entries struct{ raw *C.bl_layer_entries }

// LayerEntries opens the list of a layer's entries; Free must be called on it.
func (s *Storage) LayerEntries(digest string, o *TreeOptions) (*Entries, *Error) {
	var a arena
	defer a.free()
	var raw *C.bl_layer_entries
	var err *C.bl_error
	if C.bl_layer_entries_open(s.raw, a.must(digest), a.tree(o), &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return &Entries{raw}, nil
}

// Next gives the next entry, nil at the end.
func (e *Entries) Next() (*Entry, *Error) {
	c := C.bl_layer_entry_init()
	var err *C.bl_error
	if C.bl_layer_entries_next(e.raw, &c, &err) != C.BL_OK {
		return nil, taken(err)
	}
	if c.kind == C.BL_ENTRY_END {
		return nil, nil
	}
	entry := &Entry{
		uint32(c.kind), uint32(c.flags), uint32(c.mode), uint32(c.uid), uint32(c.gid), uint32(c.mtime_nanoseconds),
		uint32(c.device_major), uint32(c.device_minor), C.GoString(c.path), C.GoString(c.link), int64(c.mtime_seconds), uint64(c.size_bytes), nil,
	}
	for _, x := range unsafe.Slice(c.xattrs, int(c.xattr_count)) {
		value := C.GoBytes(unsafe.Pointer(x.value), C.int(x.value_len))
		entry.Xattrs = append(entry.Xattrs, Xattr{C.GoString(x.name), value})
	}
	return entry, nil
}

// Free lets the list go.
func (e *Entries) Free() { C.bl_layer_entries_free(e.raw) }
