// Package capi is all of the cgo: the functions of boxlite_images.h with Go's types, and nothing of C in their signatures.
//
// Nothing of Go's memory stays with C after a call, and no struct that C reads points into it: what a struct points to lives
// in an arena of C's memory for the length of the call. Callbacks are found again by a cgo.Handle.
package capi

/*
#cgo pkg-config: boxlite_images
#include <stdlib.h>
#include <string.h>
#include <boxlite_images.h>
*/
import "C"

import "unsafe"

// arena holds memory of C's for the length of a call.
type arena struct{ held []unsafe.Pointer }

func (a *arena) free() {
	for _, p := range a.held {
		C.free(p)
	}
}

// str is NULL for "".
func (a *arena) str(s string) *C.char {
	if s == "" {
		return nil
	}
	return a.must(s)
}

// must is never NULL. What C would take for a shorter string is passed as an empty one, which is refused.
func (a *arena) must(s string) *C.char {
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			s = ""
			break
		}
	}
	p := C.CString(s)
	a.held = append(a.held, unsafe.Pointer(p))
	return p
}

func (a *arena) alloc(size uintptr) unsafe.Pointer {
	p := C.calloc(1, C.size_t(size))
	a.held = append(a.held, p)
	return p
}

// list ends with NULL; it is NULL without strings.
func (a *arena) list(strings []string) **C.char {
	if len(strings) == 0 {
		return nil
	}
	first := (**C.char)(a.alloc(uintptr(len(strings)+1) * unsafe.Sizeof((*C.char)(nil))))
	for i, slots := 0, unsafe.Slice(first, len(strings)); i < len(strings); i++ {
		slots[i] = a.must(strings[i])
	}
	return first
}

// Error is what a call has failed with.
type Error struct {
	Status                                              int32
	Message, RegistryCode, ExpectedDigest, ActualDigest string
	Errno, HTTPStatus                                   int
	Retryable                                           bool
}

func taken(err *C.bl_error) *Error {
	if err == nil {
		return nil
	}
	defer C.bl_error_free(err)
	return &Error{
		Status:         int32(C.bl_error_status(err)),
		Message:        C.GoString(C.bl_error_message(err)),
		RegistryCode:   C.GoString(C.bl_error_registry_code(err)),
		ExpectedDigest: C.GoString(C.bl_error_expected_digest(err)),
		ActualDigest:   C.GoString(C.bl_error_actual_digest(err)),
		Errno:          int(C.bl_error_os_errno(err)),
		HTTPStatus:     int(C.bl_error_http_status(err)),
		Retryable:      bool(C.bl_error_retryable(err)),
	}
}

// bytesOf takes what C gave over.
func bytesOf(bytes *C.bl_bytes) []byte {
	defer C.bl_bytes_free(bytes)
	return C.GoBytes(unsafe.Pointer(C.bl_bytes_data(bytes)), C.int(C.bl_bytes_len(bytes)))
}

func namesOf(names *C.bl_names) []string {
	defer C.bl_names_free(names)
	all := make([]string, C.bl_names_count(names))
	for i := range all {
		all[i] = C.GoString(C.bl_names_get(names, C.size_t(i)))
	}
	return all
}

// VersionString is that of the library that is loaded.
func VersionString() string { return C.GoString(C.bl_version_string()) }

// VersionNumber is major * 1000000 + minor * 1000 + patch.
func VersionNumber() uint32 { return uint32(C.bl_version_number()) }

// HasFeature is whether the library that is loaded was built with it.
func HasFeature(feature uint32) bool { return bool(C.bl_has_feature(C.uint32_t(feature))) }

// StatusName is like "NOT_FOUND".
func StatusName(status int32) string { return C.GoString(C.bl_status_name(C.bl_status(status))) }

// Shutdown ends the library's threads.
func Shutdown(timeoutMS uint64) *Error {
	var err *C.bl_error
	C.bl_shutdown(C.uint64_t(timeoutMS), &err)
	return taken(err)
}

// Cancel ends calls from elsewhere.
type Cancel struct{ raw *C.bl_cancel }

// NewCancel gives a token that Free must be called on.
func NewCancel() (*Cancel, *Error) {
	var raw *C.bl_cancel
	var err *C.bl_error
	if C.bl_cancel_new(&raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return &Cancel{raw}, nil
}

// Trigger ends the calls that have the token.
func (c *Cancel) Trigger() { C.bl_cancel_trigger(c.raw) }

// Free lets it go.
func (c *Cancel) Free() { C.bl_cancel_free(c.raw) }

func (c *Cancel) get() *C.bl_cancel {
	if c == nil {
		return nil
	}
	return c.raw
}

// Storage is an open store.
type Storage struct{ raw *C.bl_storage }

// StorageOptions are those of C.
type StorageOptions struct {
	Flags, MaxBlobBytes, MinFreeBytes, GCAboveBytes, GCMinAge uint64
	Durability                                                uint32
}

// OpenStorage opens a store that Close must be called on.
func OpenStorage(dir string, o StorageOptions) (*Storage, *Error) {
	var a arena
	defer a.free()
	c := C.bl_storage_options_init()
	c.flags = C.uint64_t(o.Flags)
	c.max_blob_bytes = C.uint64_t(o.MaxBlobBytes)
	c.durability = C.uint32_t(o.Durability)
	c.min_free_bytes = C.uint64_t(o.MinFreeBytes)
	c.gc_above_bytes = C.uint64_t(o.GCAboveBytes)
	c.gc_min_age_seconds = C.uint64_t(o.GCMinAge)
	var raw *C.bl_storage
	var err *C.bl_error
	if C.bl_storage_open(a.must(dir), &c, &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return &Storage{raw}, nil
}

// Close lets the store go.
func (s *Storage) Close() { C.bl_storage_close(s.raw) }

// Text is a question about the store that is answered with bytes.
type Text int

// The questions.
const (
	ImagesDir Text = iota
	LayersDir
	LoadManifest
	ManifestPath
	LoadConfig
	ConfigPath
	LayerTarballPath
	LayerExtractedPath
)

// Text answers a question, most of which are about a digest.
func (s *Storage) Text(question Text, digest string) ([]byte, *Error) {
	var a arena
	defer a.free()
	var out *C.bl_bytes
	var err *C.bl_error
	switch d := a.must(digest); question {
	case ImagesDir:
		C.bl_images_dir(s.raw, &out, &err)
	case LayersDir:
		C.bl_layers_dir(s.raw, &out, &err)
	case LoadManifest:
		C.bl_load_manifest(s.raw, d, &out, &err)
	case ManifestPath:
		C.bl_manifest_path(s.raw, d, &out, &err)
	case LoadConfig:
		C.bl_load_config(s.raw, d, &out, &err)
	case ConfigPath:
		C.bl_config_path(s.raw, d, &out, &err)
	case LayerTarballPath:
		C.bl_layer_tarball_path(s.raw, d, &out, &err)
	case LayerExtractedPath:
		C.bl_layer_extracted_path(s.raw, d, &out, &err)
	}
	if err != nil {
		return nil, taken(err)
	}
	return bytesOf(out), nil
}

// BundleCacheDir is the cache folder of a bundle.
func (s *Storage) BundleCacheDir(path, digest string) (string, *Error) {
	var a arena
	defer a.free()
	var out *C.bl_bytes
	var err *C.bl_error
	if C.bl_local_bundle_cache_dir(s.raw, a.must(path), a.must(digest), &out, &err) != C.BL_OK {
		return "", taken(err)
	}
	return string(bytesOf(out)), nil
}

// Kind is a kind of blob.
type Kind int

// The kinds.
const (
	Manifest Kind = iota
	Config
	Layer
)

// Has tells whether the store has a blob.
func (s *Storage) Has(kind Kind, digest string) (bool, *Error) {
	var a arena
	defer a.free()
	var has C.bool
	var err *C.bl_error
	switch d := a.must(digest); kind {
	case Manifest:
		C.bl_has_manifest(s.raw, d, &has, &err)
	case Config:
		C.bl_has_config(s.raw, d, &has, &err)
	case Layer:
		C.bl_has_layer(s.raw, d, &has, &err)
	}
	return bool(has), taken(err)
}

// VerifyBlobsExist tells whether the store has all of some layers.
func (s *Storage) VerifyBlobsExist(digests []string) (bool, *Error) {
	var a arena
	defer a.free()
	var has C.bool
	var err *C.bl_error
	C.bl_verify_blobs_exist(s.raw, a.list(digests), C.size_t(len(digests)), &has, &err)
	return bool(has), taken(err)
}

// SaveManifest stores a manifest.
func (s *Storage) SaveManifest(digest string, data []byte) *Error {
	var a arena
	defer a.free()
	var err *C.bl_error
	if len(data) == 0 {
		C.bl_save_manifest(s.raw, a.must(digest), nil, 0, &err)
	} else {
		// The address is taken in the call: then cgo looks at the bytes alone, and not at what they may be part of.
		C.bl_save_manifest(s.raw, a.must(digest), unsafe.Pointer(&data[0]), C.size_t(len(data)), &err)
	}
	return taken(err)
}

// VerifyLayer hashes a layer.
func (s *Storage) VerifyLayer(digest string, cancel *Cancel) *Error {
	var a arena
	defer a.free()
	c := C.bl_verify_options_init()
	c.cancel = cancel.get()
	var err *C.bl_error
	C.bl_verify_layer(s.raw, a.must(digest), &c, &err)
	return taken(err)
}

// Staged is a blob on its way into the store.
type Staged struct{ raw *C.bl_staged }

// Stage begins a layer or a config; Free must be called on what it gives.
func (s *Storage) Stage(kind Kind, digest string, size int64) (*Staged, *Error) {
	var a arena
	defer a.free()
	var raw *C.bl_staged
	var err *C.bl_error
	if kind == Config {
		C.bl_stage_config(s.raw, a.must(digest), &raw, &err)
	} else {
		C.bl_stage_layer(s.raw, a.must(digest), C.int64_t(size), &raw, &err)
	}
	if err != nil {
		return nil, taken(err)
	}
	return &Staged{raw}, nil
}

// Write appends.
func (s *Staged) Write(data []byte) *Error {
	var err *C.bl_error
	if len(data) == 0 {
		C.bl_write(s.raw, nil, 0, &err)
	} else {
		C.bl_write(s.raw, unsafe.Pointer(&data[0]), C.size_t(len(data)), &err)
	}
	return taken(err)
}

// Commit verifies it and makes it visible.
func (s *Staged) Commit() *Error {
	var err *C.bl_error
	C.bl_commit(s.raw, &err)
	return taken(err)
}

// Abort ends it.
func (s *Staged) Abort() *Error {
	var err *C.bl_error
	C.bl_abort(s.raw, &err)
	return taken(err)
}

// BytesWritten is how much was written.
func (s *Staged) BytesWritten() uint64 { return uint64(C.bl_staged_bytes_written(s.raw)) }

// Path is where it is, or where it will be.
func (s *Staged) Path(final bool) (string, *Error) {
	var out *C.bl_bytes
	var err *C.bl_error
	if final {
		C.bl_final_path(s.raw, &out, &err)
	} else {
		C.bl_staged_path(s.raw, &out, &err)
	}
	if err != nil {
		return "", taken(err)
	}
	return string(bytesOf(out)), nil
}

// Free lets it go.
func (s *Staged) Free() { C.bl_staged_free(s.raw) }

// Lease holds objects.
type Lease struct{ raw *C.bl_lease }

// CreateLease makes one that Free must be called on.
func (s *Storage) CreateLease(seconds uint64) (*Lease, *Error) {
	var raw *C.bl_lease
	var err *C.bl_error
	if C.bl_lease_create(s.raw, C.uint64_t(seconds), &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return &Lease{raw}, nil
}

// OpenLease finds one again.
func (s *Storage) OpenLease(id string) (*Lease, *Error) {
	var a arena
	defer a.free()
	var raw *C.bl_lease
	var err *C.bl_error
	if C.bl_lease_open(s.raw, a.must(id), &raw, &err) != C.BL_OK {
		return nil, taken(err)
	}
	return &Lease{raw}, nil
}

// ID is what OpenLease takes.
func (l *Lease) ID() string { return C.GoString(C.bl_lease_id(l.raw)) }

// Hold adds an object.
func (l *Lease) Hold(digest string) *Error {
	var a arena
	defer a.free()
	var err *C.bl_error
	C.bl_lease_hold(l.raw, a.must(digest), &err)
	return taken(err)
}

// Extend gives it more time.
func (l *Lease) Extend(seconds uint64) *Error {
	var err *C.bl_error
	C.bl_lease_extend(l.raw, C.uint64_t(seconds), &err)
	return taken(err)
}

// Release ends it.
func (l *Lease) Release() *Error {
	var err *C.bl_error
	C.bl_lease_release(l.raw, &err)
	return taken(err)
}

// Free lets it go.
func (l *Lease) Free() { C.bl_lease_free(l.raw) }
