package capi

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"strings"
	"sync"
)

// Panic is what a callback of the host's ended with. It goes no further than the callback.
type Panic struct{ Value any }

func (p *Panic) Error() string { return fmt.Sprintf("the callback panicked: %v", p.Value) }

// call is a callback on its way through C, and what became of it.
type call[T any] struct {
	run  func(T) error
	fate error
}

// callback gives a handle to find it by, 0 without a function; and how to let it go.
func callback[T any](run func(T) error) (handle C.uintptr_t, fate func() error, free func()) {
	if run == nil {
		return 0, func() error { return nil }, func() {}
	}
	c := &call[T]{run: run}
	h := cgo.NewHandle(c)
	return C.uintptr_t(h), func() error { return c.fate }, h.Delete
}

// answer calls it; nothing that it does leaves here but the number that ends the call in C. It has a goroutine of its own, so
// that even runtime.Goexit, which a failing test is, ends that and not the frames of C below it.
func answer[T any](handle C.uintptr_t, value T) C.int32_t {
	c := cgo.Handle(handle).Value().(*call[T])
	if c.fate != nil {
		return 1
	}
	c.fate = contained(func() error { return c.run(value) })
	if c.fate != nil {
		return 1
	}
	return 0
}

func contained(run func() error) error {
	fate := make(chan error, 1)
	go func() {
		var err error = &Panic{"runtime.Goexit"}
		defer func() {
			if value := recover(); value != nil {
				err = &Panic{value}
			}
			fate <- err
		}()
		err = run()
	}()
	return <-fate
}

// Progress is how far a call came.
type Progress struct{ BytesIn, BytesOut, Entries uint64 }

//export blGoProgress
func blGoProgress(p *C.bl_progress, handle C.uintptr_t) C.int32_t {
	return answer(handle, Progress{uint64(p.bytes_in), uint64(p.bytes_out), uint64(p.entries)})
}

// LayerProgress is how far one layer of a pull came.
type LayerProgress struct {
	Digest                            string
	Done                              bool
	Bytes, BytesStored, BytesUnpacked uint64
}

// PullProgress is how far a pull came.
type PullProgress struct {
	Phase                                                                                uint32
	LayersDone, BytesToFetch, BytesFetched, BytesPresent, BytesUnpacked, EntriesUnpacked uint64
	Layers                                                                               []LayerProgress
}

//export blGoPullProgress
func blGoPullProgress(p *C.bl_pull_progress, handle C.uintptr_t) C.int32_t {
	progress := PullProgress{
		Phase: uint32(p.phase), LayersDone: uint64(p.layers_done), BytesToFetch: uint64(p.bytes_to_fetch),
		BytesFetched: uint64(p.bytes_fetched), BytesPresent: uint64(p.bytes_present),
		BytesUnpacked: uint64(p.bytes_unpacked), EntriesUnpacked: uint64(p.entries_unpacked),
	}
	for i := C.size_t(0); i < C.size_t(p.layers); i++ {
		layer := C.bl_layer_progress_init()
		if C.bl_pull_layers_get(p.each_layer, i, &layer, nil) != C.BL_OK {
			break
		}
		progress.Layers = append(progress.Layers, LayerProgress{
			Digest: C.GoString(&layer.digest[0]), Done: layer.is_done != 0,
			Bytes: uint64(layer.bytes), BytesStored: uint64(layer.bytes_stored), BytesUnpacked: uint64(layer.bytes_unpacked),
		})
	}
	return answer(handle, progress)
}

// Question is for whom credentials are wanted; User is set by the answer.
type Question struct {
	Host, Repository string
	User, Password   string
}

//export blGoCredentials
func blGoCredentials(host, repository *C.char, out *C.bl_credentials, handle C.uintptr_t) C.int32_t {
	question := &Question{Host: C.GoString(host), Repository: C.GoString(repository)}
	if result := answer(handle, question); result != 0 || question.User+question.Password == "" {
		return result
	}
	if strings.Contains(question.User+question.Password, "\x00") {
		return 1
	}
	var a arena
	defer a.free()
	if C.bl_credentials_set(out, a.must(question.User), a.must(question.Password), nil) != C.BL_OK {
		return 1
	}
	return 0
}

//export blGoRemoved
func blGoRemoved(object *C.char, handle C.uintptr_t) { answer(handle, C.GoString(object)) }

// Finding is something that is not as it should be.
type Finding struct {
	Object, Message string
	Problem         uint32
	Quarantined     bool
}

//export blGoFinding
func blGoFinding(f *C.bl_finding, handle C.uintptr_t) {
	answer(handle, Finding{C.GoString(f.object), C.GoString(f.message), uint32(f.problem), f.quarantined != 0})
}

// LogLine is a line of the log.
type LogLine struct {
	Level   int32
	Message string
}

//export blGoLog
func blGoLog(level C.int32_t, message *C.char, handle C.uintptr_t) {
	// From several threads at a time; one that panics is called again for the next line.
	line := cgo.Handle(handle).Value().(func(LogLine))
	_ = contained(func() error {
		line(LogLine{int32(level), C.GoString(message)})
		return nil
	})
}

var (
	logMutex sync.Mutex
	freeLog  = func() {}
)

// SetLog sets where log lines go.
func SetLog(level int32, line func(LogLine)) *Error {
	logMutex.Lock()
	defer logMutex.Unlock()
	var handle cgo.Handle
	free := func() {}
	if line != nil {
		handle = cgo.NewHandle(line)
		free = handle.Delete
	}
	var err *C.bl_error
	if C.bl_go_set_log(C.int32_t(level), C.uintptr_t(handle), &err) != C.BL_OK {
		free()
		return taken(err)
	}
	// The one before is not running now, and is not called again.
	freeLog()
	freeLog = free
	return nil
}
