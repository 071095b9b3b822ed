package capi

// #include "shim.h"
import "C"

import "unsafe"

// ConfigChanges are those of C; nil is what stays.
type ConfigChanges struct {
	Entrypoint, Cmd                                           *[]string
	Env, UnsetEnv, Labels, UnsetLabels, ExposedPorts, Volumes []string
	WorkingDir, User, StopSignal                              *string
}

// CommitOptions are those of C.
type CommitOptions struct {
	Call
	Flags                      uint64
	Name                       string
	Compression                uint32
	Level                      int32
	EpochSeconds               int64
	Author, Message, CreatedBy string
	Changes                    ConfigChanges
	Annotations                []string
	Limits                     *Limits
	Extract                    *TreeOptions
}

// CommitCounts are those of C.
type CommitCounts struct{ Entries, Sockets, OtherFileSystems uint64 }

// words is NULL for nil, and otherwise a list that may be empty.
func (a *arena) words(strings *[]string) **C.char {
	if strings == nil {
		return nil
	}
	if list := a.list(*strings); list != nil {
		return list
	}
	return (**C.char)(a.alloc(unsafe.Sizeof((*C.char)(nil))))
}

func (a *arena) given(s *string) *C.char {
	if s == nil {
		return nil
	}
	return a.must(*s)
}

func (a *arena) commit(o *CommitOptions, handle C.uintptr_t) *C.bl_commit_options {
	changes := (*C.bl_config_changes)(a.alloc(unsafe.Sizeof(C.bl_config_changes{})))
	*changes = C.bl_config_changes_init()
	changes.entrypoint = a.words(o.Changes.Entrypoint)
	changes.cmd = a.words(o.Changes.Cmd)
	changes.env = a.list(o.Changes.Env)
	changes.unset_env = a.list(o.Changes.UnsetEnv)
	changes.working_dir = a.given(o.Changes.WorkingDir)
	changes.user = a.given(o.Changes.User)
	changes.labels = a.list(o.Changes.Labels)
	changes.unset_labels = a.list(o.Changes.UnsetLabels)
	changes.exposed_ports = a.list(o.Changes.ExposedPorts)
	changes.volumes = a.list(o.Changes.Volumes)
	changes.stop_signal = a.given(o.Changes.StopSignal)
	c := (*C.bl_commit_options)(a.alloc(unsafe.Sizeof(C.bl_commit_options{})))
	*c = C.bl_commit_options_init()
	c.flags = C.uint64_t(o.Flags)
	c.name = a.str(o.Name)
	c.compression = C.uint32_t(o.Compression)
	c.level = C.int32_t(o.Level)
	c.epoch_seconds = C.int64_t(o.EpochSeconds)
	c.author = a.str(o.Author)
	c.message = a.str(o.Message)
	c.created_by = a.str(o.CreatedBy)
	c.changes = changes
	c.annotations = a.list(o.Annotations)
	c.counts = (*C.bl_commit_counts)(a.alloc(unsafe.Sizeof(C.bl_commit_counts{})))
	*c.counts = C.bl_commit_counts_init()
	if o.Extract != nil {
		c.extract = a.tree(o.Extract)
	}
	c.limits = a.limits(o.Limits)
	c.cancel = o.Cancel.get()
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	return c
}

func committed(raw *C.bl_image, c *C.bl_commit_options) (*Image, CommitCounts) {
	n := c.counts
	return &Image{raw}, CommitCounts{uint64(n.entries), uint64(n.sockets), uint64(n.other_file_systems)}
}

// CommitImage makes an image of what was changed; the base may be nil.
func (s *Storage) CommitImage(base *Image, kind uint32, path string, o *CommitOptions) (*Image, CommitCounts, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := a.commit(o, handle)
	source := C.bl_commit_source_init()
	source.kind = C.uint32_t(kind)
	source.path = a.must(path)
	var below *C.bl_image
	if base != nil {
		below = base.raw
	}
	var raw *C.bl_image
	var err *C.bl_error
	if C.bl_commit_image(s.raw, below, &source, c, &raw, &err) != C.BL_OK {
		return nil, CommitCounts{}, taken(err), fate()
	}
	image, counts := committed(raw, c)
	return image, counts, nil, nil
}

// SquashImage makes one layer of all from one on.
func (s *Storage) SquashImage(i *Image, from int, o *CommitOptions) (*Image, CommitCounts, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := a.commit(o, handle)
	var raw *C.bl_image
	var err *C.bl_error
	if C.bl_squash_image(s.raw, i.raw, C.size_t(from), c, &raw, &err) != C.BL_OK {
		return nil, CommitCounts{}, taken(err), fate()
	}
	image, counts := committed(raw, c)
	return image, counts, nil, nil
}

// EditImage makes an image with the same layers and another config.
func (s *Storage) EditImage(i *Image, o *CommitOptions) (*Image, CommitCounts, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := a.commit(o, handle)
	var raw *C.bl_image
	var err *C.bl_error
	if C.bl_edit_image(s.raw, i.raw, c, &raw, &err) != C.BL_OK {
		return nil, CommitCounts{}, taken(err), fate()
	}
	image, counts := committed(raw, c)
	return image, counts, nil, nil
}
