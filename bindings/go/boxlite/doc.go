// Package boxlite is an embeddable OCI image store: it pulls, verifies, stores, extracts and assembles container images in one
// directory that many processes share, without a daemon and without root.
//
// It stands on libboxlite_images, found by pkg-config. What a call costs, what its options mean and which statuses it gives is
// said in boxlite_images.h, under the same words.
//
// A context ends the call that it is given to, within 100 ms: the error is then both ErrCancelled, or ErrTimeout where its deadline passed, and the context's own.
// Without one, a pull in the background is a goroutine: there is no bl_pull_start here.
// Objects are closed with Close, once or more often; a method of one that is closed gives ErrClosed. Any goroutine may use any
// object. Nothing is left to finalizers. Close waits for the calls that run, and is not for callbacks of the same object. A callback
// that returns an error, or panics, ends its call with ErrCallback, and is the cause of the error.
package boxlite
