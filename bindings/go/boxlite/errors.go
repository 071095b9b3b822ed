package boxlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// Status says what kind of failure an error is. Each is an error to compare with: errors.Is(err, boxlite.ErrNotFound).
type Status int32

// The statuses of boxlite_images.h.
const (
	ErrInvalidArgument Status = -1
	ErrUnsupported     Status = -2
	ErrNotFound        Status = -3
	ErrBusy            Status = -4
	ErrState           Status = -5
	ErrExists          Status = -6
	ErrIO              Status = -7
	ErrNoSpace         Status = -8
	ErrPermission      Status = -9
	ErrDigestMismatch  Status = -10
	ErrSizeMismatch    Status = -11
	ErrMalformed       Status = -12
	ErrUnsafePath      Status = -13
	ErrLimit           Status = -14
	ErrUnauthorized    Status = -15
	ErrDenied          Status = -16
	ErrNetwork         Status = -17
	ErrTimeout         Status = -18
	ErrRateLimited     Status = -19
	ErrRegistry        Status = -20
	ErrCancelled       Status = -21
	ErrCallback        Status = -22
	ErrForked          Status = -23
	ErrInternal        Status = -24
)

// Error is the status's name, like "NOT_FOUND".
func (s Status) Error() string { return capi.StatusName(int32(s)) }

// ErrClosed is what a method of a closed object gives. It is an ErrState too.
var ErrClosed error = &Error{Status: ErrState, Message: "it is closed"}

// Error is why a call failed. errors.As gets it out of what a method gave.
type Error struct {
	Status Status
	// Message is one line that names the object.
	Message string
	// Errno is what the system said, or 0.
	Errno syscall.Errno
	// HTTPStatus is what a registry said, or 0, and RegistryCode its word for it, like "MANIFEST_UNKNOWN".
	HTTPStatus   int
	RegistryCode string
	// ExpectedDigest and ActualDigest are set with ErrDigestMismatch.
	ExpectedDigest, ActualDigest string
	// Retryable: the same call may succeed later.
	Retryable bool

	cause error
}

func (e *Error) Error() string { return e.Message }

// Is compares with a Status, with the system's error, and with fs.ErrNotExist, fs.ErrExist and fs.ErrPermission.
func (e *Error) Is(target error) bool {
	switch target := target.(type) {
	case Status:
		return e.Status == target
	case syscall.Errno:
		return e.Errno != 0 && e.Errno == target
	}
	return target == fs.ErrNotExist && e.Status == ErrNotFound || target == fs.ErrExist && e.Status == ErrExists || target == fs.ErrPermission && e.Status == ErrPermission ||
		e.Errno != 0 && e.Errno.Is(target)
}

// Unwrap is the context's error where that ended the call, or what the callback gave.
func (e *Error) Unwrap() error { return e.cause }

// Panic is the cause of an error of a call whose callback panicked. The panic went no further.
type Panic struct{ Value any }

func (p *Panic) Error() string { return fmt.Sprintf("the callback panicked: %v", p.Value) }

// of is nil for nil.
func of(err *capi.Error, cause error) error {
	if err == nil {
		return nil
	}
	var panicked *capi.Panic
	if errors.As(cause, &panicked) {
		cause = &Panic{panicked.Value}
	}
	return &Error{
		Status: Status(err.Status), Message: err.Message, Errno: syscall.Errno(err.Errno), HTTPStatus: err.HTTPStatus,
		RegistryCode: err.RegistryCode, ExpectedDigest: err.ExpectedDigest, ActualDigest: err.ActualDigest,
		Retryable: err.Retryable, cause: cause,
	}
}

// ofContext is the status of a call that its context ended.
func ofContext(err error) Status {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return ErrCancelled
}

// within runs a call that ends when the context does.
func within(ctx context.Context, call func(*capi.Cancel) (*capi.Error, error)) error {
	if err := ctx.Err(); err != nil {
		return &Error{Status: ofContext(err), Message: "the context is done: " + err.Error(), cause: err}
	}
	if ctx.Done() == nil {
		return of(call(nil))
	}
	cancel, failed := capi.NewCancel()
	if failed != nil {
		return of(failed, nil)
	}
	// The token outlives everybody who may trigger it.
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
			cancel.Trigger()
		case <-over:
		}
	}()
	defer cancel.Free()
	defer func() { <-watched }()
	defer close(over)
	err, cause := call(cancel)
	if err != nil && Status(err.Status) == ErrCancelled && ctx.Err() != nil {
		cause = ctx.Err()
		if err.Status = int32(ofContext(cause)); Status(err.Status) == ErrTimeout {
			err.Message = strings.Replace(err.Message, "cancelled by the caller", "the context's deadline passed", 1)
		}
	}
	return of(err, cause)
}
