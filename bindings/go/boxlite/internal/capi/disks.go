package capi

// #include "shim.h"
import "C"

import "unsafe"

// DiskOptions are those of C.
type DiskOptions struct {
	Call
	Flags           uint64
	Format, Layout  uint32
	SizeBytes       uint64
	FreeBytes       uint64
	FreeInodes      uint64
	JournalBytes    uint64
	TopLayer        string
	Files           []DiskFile
	Label, UUID     string
	MaxMtimeSeconds int64
	LeaseSeconds    uint64
	Limits          *Limits
}

// DiskFile is something on top of the image.
type DiskFile struct {
	Kind, Mode, UID, GID uint32
	MtimeSeconds         uint64
	Path, Source, Target string
	Data                 []byte
}

func (a *arena) diskFiles(all []DiskFile) **C.bl_disk_file {
	if len(all) == 0 {
		return nil
	}
	list := (**C.bl_disk_file)(a.alloc(uintptr(len(all)+1) * unsafe.Sizeof((*C.bl_disk_file)(nil))))
	slots := unsafe.Slice(list, len(all))
	for i, f := range all {
		c := (*C.bl_disk_file)(a.alloc(unsafe.Sizeof(C.bl_disk_file{})))
		*c = C.bl_disk_file_init()
		c.kind = C.uint32_t(f.Kind)
		c.mode = C.uint32_t(f.Mode)
		c.uid = C.uint32_t(f.UID)
		c.gid = C.uint32_t(f.GID)
		c.mtime_seconds = C.uint64_t(f.MtimeSeconds)
		c.path = a.must(f.Path)
		c.source = a.str(f.Source)
		c.target = a.str(f.Target)
		if len(f.Data) > 0 {
			c.data = a.alloc(uintptr(len(f.Data)))
			c.data_len = C.size_t(len(f.Data))
			copy(unsafe.Slice((*byte)(c.data), len(f.Data)), f.Data)
		}
		slots[i] = c
	}
	return list
}

// DiskPart is a file of a disk.
type DiskPart struct {
	Path                     string
	OffsetBytes, LengthBytes uint64
}

// Disk is what a disk came to.
type Disk struct {
	Path, Format, FileSystem, UUID, Key, KernelArgs string
	RootHash, VerityTable                           string
	SizeBytes, AllocatedBytes, Entries, Anomalies   uint64
	Cached                                          bool
	Parts                                           []DiskPart
}

func (a *arena) disk(o *DiskOptions) C.bl_disk_options {
	c := C.bl_disk_options_init()
	c.flags = C.uint64_t(o.Flags)
	c.format = C.uint32_t(o.Format)
	c.layout = C.uint32_t(o.Layout)
	c.size_bytes = C.uint64_t(o.SizeBytes)
	c.free_bytes = C.uint64_t(o.FreeBytes)
	c.free_inodes = C.uint64_t(o.FreeInodes)
	c.journal_bytes = C.uint64_t(o.JournalBytes)
	c.top_layer_path = a.str(o.TopLayer)
	c.files = a.diskFiles(o.Files)
	c.label = a.str(o.Label)
	c.uuid = a.str(o.UUID)
	c.max_mtime_seconds = C.int64_t(o.MaxMtimeSeconds)
	c.lease_seconds = C.uint64_t(o.LeaseSeconds)
	c.limits = a.limits(o.Limits)
	c.cancel = o.Cancel.get()
	return c
}

// CreateDisk makes a disk of an image.
func (s *Storage) CreateDisk(i *Image, destination string, o *DiskOptions) (Disk, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := a.disk(o)
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	var raw *C.bl_disk
	var err *C.bl_error
	if C.bl_create_disk(s.raw, i.raw, a.must(destination), &c, &raw, &err) != C.BL_OK {
		return Disk{}, taken(err), fate()
	}
	disk, told := newDisk(raw)
	return disk, told, nil
}

// FormatDisk makes an empty one; the image may be nil.
func (s *Storage) FormatDisk(i *Image, destination string, o *DiskOptions) (Disk, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := a.disk(o)
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	var image *C.bl_image
	if i != nil {
		image = i.raw
	}
	var raw *C.bl_disk
	var err *C.bl_error
	if C.bl_format_disk(s.raw, image, a.must(destination), &c, &raw, &err) != C.BL_OK {
		return Disk{}, taken(err), fate()
	}
	disk, told := newDisk(raw)
	return disk, told, nil
}

// KeepDisk makes it in the store, and gives the lease that holds it.
func (s *Storage) KeepDisk(i *Image, o *DiskOptions) (Disk, *Lease, *Error, error) {
	var a arena
	defer a.free()
	handle, fate, free := callback(o.Progress)
	defer free()
	c := a.disk(o)
	if handle != 0 {
		C.bl_go_set_progress(&c.progress, &c.progress_data, handle)
	}
	var raw *C.bl_disk
	var lease *C.bl_lease
	var err *C.bl_error
	if C.bl_keep_disk(s.raw, i.raw, &c, &raw, &lease, &err) != C.BL_OK {
		return Disk{}, nil, taken(err), fate()
	}
	disk, told := newDisk(raw)
	return disk, &Lease{lease}, told, nil
}

func newDisk(raw *C.bl_disk) (Disk, *Error) {
	defer C.bl_disk_free(raw)
	var err *C.bl_error
	info := C.bl_disk_info_init()
	if C.bl_disk_get_info(raw, &info, &err) != C.BL_OK {
		return Disk{}, taken(err)
	}
	text := func(field C.uint32_t) string { return C.GoString(C.bl_disk_text(raw, field)) }
	disk := Disk{
		Path: text(C.BL_DISK_TEXT_PATH), Format: text(C.BL_DISK_TEXT_FORMAT), FileSystem: text(C.BL_DISK_TEXT_FILE_SYSTEM),
		UUID: text(C.BL_DISK_TEXT_UUID), Key: text(C.BL_DISK_TEXT_KEY), KernelArgs: text(C.BL_DISK_TEXT_KERNEL_ARGS),
		RootHash: text(C.BL_DISK_TEXT_ROOT_HASH), VerityTable: text(C.BL_DISK_TEXT_VERITY_TABLE),
		SizeBytes: uint64(info.size_bytes), AllocatedBytes: uint64(info.allocated_bytes), Entries: uint64(info.entries),
		Anomalies: uint64(info.anomalies), Cached: info.cached != 0,
	}
	for index := C.size_t(0); index < C.size_t(info.parts); index++ {
		part := C.bl_disk_part_init()
		if C.bl_disk_get_part(raw, index, &part, &err) != C.BL_OK {
			return Disk{}, taken(err)
		}
		disk.Parts = append(disk.Parts, DiskPart{C.GoString(part.path), uint64(part.offset_bytes), uint64(part.length_bytes)})
	}
	return disk, nil
}
