package boxlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/boxlite-ai/boxlite-images/bindings/go/internal/capi"
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
	ErrIO              Status = -6
	ErrNoSpace         Status = -7
	ErrPermission      Status = -8
	ErrDigestMismatch  Status = -9
	ErrSizeMismatch    Status = -10
	ErrMalformed       Status = -11
	ErrUnsafePath      Status = -12
	ErrLimit           Status = -13
	ErrUnauthorized    Status = -14
	ErrDenied          Status = -15
	ErrNetwork         Status = -16
	ErrTimeout         Status = -17
	ErrRateLimited     Status = -18
	ErrRegistry        Status = -19
	ErrCancelled       Status = -20
	ErrCallback        Status = -21
	ErrForked          Status = -22
	ErrInternal        Status = -23
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

// Is compares with a Status, with the system's error, and with fs.ErrNotExist and fs.ErrPermission.
func (e *Error) Is(target error) bool {
	switch target := target.(type) {
	case Status:
		return e.Status == target
	case syscall.Errno:
		return e.Errno != 0 && e.Errno == target
	}
	return target == fs.ErrNotExist && e.Status == ErrNotFound || target == fs.ErrPermission && e.Status == ErrPermission ||
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

// within runs a call that ends when the context does.
func within(ctx context.Context, call func(*capi.Cancel) (*capi.Error, error)) error {
	if err := ctx.Err(); err != nil {
		return &Error{Status: ErrCancelled, Message: "the context is done: " + err.Error(), cause: err}
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
	}
	return of(err, cause)
}
