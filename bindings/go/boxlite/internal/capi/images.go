package capi

/*
#include "shim.h"
*/
import "C"

import "unsafe"

// Image is an open image.
type Image struct{ raw *C.bl_image }

// Images lists the names of all images.
func (s *Storage) Images() ([]string, *Error) {
	var out *C.bl_names
	var err *C.bl_error
	if C.bl_image_list(s.raw, &out, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return namesOf(out), nil
}

// TagImage gives a name.
func (s *Storage) TagImage(name, digest string) *Error {
	var a arena
	defer a.free()
	var err *C.bl_error
	C.bl_tag_image(s.raw, a.must(name), a.must(digest), &err)
	return taken(err)
}

// RemoveImage takes a name away.
func (s *Storage) RemoveImage(name string) *Error {
	var a arena
	defer a.free()
	var err *C.bl_error
	C.bl_remove_image(s.raw, a.must(name), &err)
	return taken(err)
}

// OpenImage opens an image that Free must be called on.
func (s *Storage) OpenImage(name string) (*Image, *Error) {
	var a arena
	defer a.free()
	var raw *C.bl_image
	var err *C.bl_error
	if C.bl_image_open(s.raw, a.must(name), &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return &Image{raw}, nil
}

// Free lets the image go.
func (i *Image) Free() { C.bl_image_free(i.raw) }

// Texts are all texts of a field.
func (i *Image) Texts(field uint32) []string {
	var all []string
	for n := C.size_t(0); n < C.bl_image_text_count(i.raw, C.uint32_t(field)); n++ {
		all = append(all, C.GoString(C.bl_image_text(i.raw, C.uint32_t(field), n)))
	}
	return all
}

// Layer is a layer of an image.
type ImageLayer struct {
	Digest, DiffID, MediaType string
	Size                      uint64
}

// Layers are the image's layers, the lowest first.
func (i *Image) Layers() ([]ImageLayer, *Error) {
	all := make([]ImageLayer, C.bl_image_layer_count(i.raw))
	for n := range all {
		c := C.bl_image_layer_info_init()
		var err *C.bl_error
		if C.bl_image_layer(i.raw, C.size_t(n), &c, &err) != C.BL_OK {
			return nil, taken(err)
		}
		all[n] = ImageLayer{C.GoString(c.digest), C.GoString(c.diff_id), C.GoString(c.media_type), uint64(c.size_bytes)}
	}
	return all, nil
}

// ImageUsage is how much room an image takes, and since when.
type ImageUsage struct {
	TaggedSeconds, LastUsedSeconds                            int64
	CompressedBytes, ExtractedBytes, SharedBytes, UniqueBytes uint64
}

// ImageUsage asks for it.
func (s *Storage) ImageUsage(i *Image) (ImageUsage, *Error) {
	c := C.bl_image_usage_init()
	var err *C.bl_error
	if C.bl_image_get_usage(s.raw, i.raw, &c, &err) != C.BL_OK {
		return ImageUsage{}, taken(err)
	}
	return ImageUsage{
		int64(c.tagged_seconds), int64(c.last_used_seconds), uint64(c.compressed_bytes), uint64(c.extracted_bytes), uint64(c.shared_bytes),
		uint64(c.unique_bytes),
	}, nil
}

// Process is what a guest's init starts.
type Process struct {
	Args, Env                          []string
	Cwd, Home, StopSignal, RuntimeJSON string
	UID, GID                           uint32
	AdditionalGIDs                     []uint32
}

// Process resolves an image's config in its root file system.
func (i *Image) Process(rootfs string) (*Process, *Error) {
	var a arena
	defer a.free()
	var raw *C.bl_process
	var err *C.bl_error
	if C.bl_image_process(nil, i.raw, a.must(rootfs), &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return newProcess(raw)
}

// Process resolves it in the disks of the image's layers.
func (s *Storage) Process(i *Image) (*Process, *Error) {
	var raw *C.bl_process
	var err *C.bl_error
	if C.bl_image_process(s.raw, i.raw, nil, &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return newProcess(raw)
}

func newProcess(raw *C.bl_process) (*Process, *Error) {
	var err *C.bl_error
	defer C.bl_process_free(raw)
	all := func(field C.uint32_t) (found []string) {
		for n := C.size_t(0); n < C.bl_process_text_count(raw, field); n++ {
			found = append(found, C.GoString(C.bl_process_text(raw, field, n)))
		}
		return found
	}
	one := func(field C.uint32_t) string { return C.GoString(C.bl_process_text(raw, field, 0)) }
	user := C.bl_process_user_init()
	if C.bl_process_get_user(raw, &user, &err) != C.BL_OK {
		return nil, taken(err)
	}
	p := &Process{
		Args: all(C.BL_PROCESS_ARG), Env: all(C.BL_PROCESS_ENV), Cwd: one(C.BL_PROCESS_CWD), Home: one(C.BL_PROCESS_HOME),
		StopSignal: one(C.BL_PROCESS_STOP_SIGNAL), RuntimeJSON: one(C.BL_PROCESS_RUNTIME_JSON), UID: uint32(user.uid),
		GID: uint32(user.gid),
	}
	for _, gid := range unsafe.Slice(user.additional_gids, int(user.additional_gid_count)) {
		p.AdditionalGIDs = append(p.AdditionalGIDs, uint32(gid))
	}
	return p, nil
}

// ImportOptions are those of C.
type ImportOptions struct {
	Call
	Flags                  uint64
	Tree                   TreeOptions
	Select, Name, Platform string
}

func (a *arena) imports(o *ImportOptions, handle C.uintptr_t) *C.bl_import_options {
	c := (*C.bl_import_options)(a.alloc(unsafe.Sizeof(C.bl_import_options{})))
	*c = C.bl_import_options_init()
	c.flags = C.uint64_t(o.Flags)
	c._select = a.str(o.Select)
	c.name = a.str(o.Name)
	c.platform = a.str(o.Platform)
	c.tree = a.tree(&o.Tree)
	c.cancel = o.Cancel.get()
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	return c
}

// Import takes images out of a path, or where that is empty out of a descriptor.
func (s *Storage) Import(path string, fd uintptr, o *ImportOptions) ([]string, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	var out *C.bl_names
	var err *C.bl_error
	if path != "" {
		C.bl_import(s.raw, a.must(path), a.imports(o, handle), &out, &err)
	} else {
		C.bl_import_fd(s.raw, C.int(fd), a.imports(o, handle), &out, &err)
	}
	if err != nil {
		return nil, taken(err), fate()
	}
	return namesOf(out), nil, nil
}

// OpenBundle opens a layout's folder where it is; Close must be called on what it gives.
func (s *Storage) OpenBundle(path string, o *ImportOptions) (*Storage, []string, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	var raw *C.bl_storage
	var names *C.bl_names
	var err *C.bl_error
	if C.bl_bundle_open(s.raw, a.must(path), a.imports(o, handle), &raw, &names, &err) != C.BL_OK {
		return nil, nil, taken(err), fate()
	}
	return &Storage{raw}, namesOf(names), nil, nil
}

// Export writes images to a path, or where that is empty to a descriptor.
func (s *Storage) Export(images []*Image, path string, fd uintptr, flags uint64, o *Call) (*Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := C.bl_export_options_init()
	c.flags = C.uint64_t(flags)
	c.cancel = o.Cancel.get()
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	var err *C.bl_error
	list := (**C.bl_image)(a.alloc(uintptr(len(images)+1) * unsafe.Sizeof((*C.bl_image)(nil))))
	for i, slots := 0, unsafe.Slice(list, len(images)); i < len(images); i++ {
		slots[i] = images[i].raw
	}
	if path != "" {
		C.bl_export(s.raw, list, C.size_t(len(images)), a.must(path), &c, &err)
	} else {
		C.bl_export_fd(s.raw, list, C.size_t(len(images)), C.int(fd), &c, &err)
	}
	return taken(err), fate()
}

// RootfsOptions are those of C.
type RootfsOptions struct {
	Call
	Flags      uint64
	Mode       uint32
	Tree       TreeOptions
	RecordPath string
}

// Rootfs is what an assembly came to.
type Rootfs struct{ Layers, Entries, Anomalies uint64 }

// AssembleRootfs makes a root file system.
func (s *Storage) AssembleRootfs(i *Image, destination string, o *RootfsOptions) (Rootfs, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := C.bl_rootfs_options_init()
	c.flags = C.uint64_t(o.Flags)
	c.mode = C.uint32_t(o.Mode)
	c.tree = a.tree(&o.Tree)
	c.record_path = a.str(o.RecordPath)
	c.cancel = o.Cancel.get()
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	out := C.bl_rootfs_result_init()
	var err *C.bl_error
	if C.bl_assemble_rootfs(s.raw, i.raw, a.must(destination), &c, &out, &err) != C.BL_OK {
		return Rootfs{}, taken(err), fate()
	}
	return Rootfs{uint64(out.layers), uint64(out.entries), uint64(out.anomalies)}, nil, nil
}

// Overlay is what an overlay mount needs.
type Overlay struct {
	MountOptions, MountDir string
	LowerDirs              []string
}

// PrepareOverlay gives that, and the lease that holds the layers.
func (s *Storage) PrepareOverlay(i *Image, tree *TreeOptions, leaseSeconds uint64, o *Call) (Overlay, *Lease, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := C.bl_overlay_options_init()
	c.tree = a.tree(tree)
	c.lease_seconds = C.uint64_t(leaseSeconds)
	c.cancel = o.Cancel.get()
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	var out *C.bl_overlay
	var lease *C.bl_lease
	var err *C.bl_error
	if C.bl_prepare_overlay(s.raw, i.raw, &c, &out, &lease, &err) != C.BL_OK {
		return Overlay{}, nil, taken(err), fate()
	}
	defer C.bl_overlay_free(out)
	made := Overlay{MountOptions: C.GoString(C.bl_overlay_mount_options(out)), MountDir: C.GoString(C.bl_overlay_mount_dir(out))}
	for index := C.size_t(0); index < C.bl_overlay_lower_dir_count(out); index++ {
		made.LowerDirs = append(made.LowerDirs, C.GoString(C.bl_overlay_lower_dir(out, index)))
	}
	return made, &Lease{lease}, nil, nil
}
