package capi

/*
#include "shim.h"
*/
import "C"

import "unsafe"

// RegistryOptions are those of C.
type RegistryOptions struct {
	Flags                                      uint64
	Host, CAFile, ClientCertificate, ClientKey string
	Headers, Mirrors                           []string
}

// PullOptions are those of C.
type PullOptions struct {
	Flags                                                          uint64
	Policy, Parallel                                               uint32
	Platform, User, Password, AuthFile, HostsDir, Proxy, UserAgent string
	Registries                                                     []RegistryOptions
	Tree                                                           TreeOptions
	MaxBytes, ConnectTimeoutMS, StallTimeoutMS, ProgressIntervalMS uint64
	Cancel                                                         *Cancel
	Credentials                                                    func(*Question) error
	Progress                                                       func(PullProgress) error
}

func (a *arena) registries(all []RegistryOptions) **C.bl_registry_options {
	if len(all) == 0 {
		return nil
	}
	list := (**C.bl_registry_options)(a.alloc(uintptr(len(all)+1) * unsafe.Sizeof((*C.bl_registry_options)(nil))))
	slots := unsafe.Slice(list, len(all))
	for i, r := range all {
		c := (*C.bl_registry_options)(a.alloc(unsafe.Sizeof(C.bl_registry_options{})))
		*c = C.bl_registry_options_init()
		c.flags = C.uint64_t(r.Flags)
		c.host = a.str(r.Host)
		c.ca_file = a.str(r.CAFile)
		c.client_certificate = a.str(r.ClientCertificate)
		c.client_key = a.str(r.ClientKey)
		c.headers = a.list(r.Headers)
		c.mirrors = a.list(r.Mirrors)
		slots[i] = c
	}
	return list
}

// Pull pulls an image, which Free must be called on.
func (s *Storage) Pull(reference string, o *PullOptions) (*Image, *Error, error) {
	var a arena
	defer a.free()
	progress, fate, free := callback(o.Progress)
	defer free()
	credentials, fateOfCredentials, freeCredentials := callback(o.Credentials)
	defer freeCredentials()
	c := (*C.bl_pull_options)(a.alloc(unsafe.Sizeof(C.bl_pull_options{})))
	*c = C.bl_pull_options_init()
	c.flags = C.uint64_t(o.Flags)
	c.policy = C.uint32_t(o.Policy)
	c.parallel = C.uint32_t(o.Parallel)
	c.platform = a.str(o.Platform)
	c.user = a.str(o.User)
	if o.User != "" || o.Password != "" {
		c.password = a.must(o.Password)
	}
	c.auth_file = a.str(o.AuthFile)
	c.registries = a.registries(o.Registries)
	c.hosts_dir = a.str(o.HostsDir)
	c.proxy = a.str(o.Proxy)
	c.tree = a.tree(&o.Tree)
	c.user_agent = a.str(o.UserAgent)
	c.max_bytes = C.uint64_t(o.MaxBytes)
	c.connect_timeout_ms = C.uint64_t(o.ConnectTimeoutMS)
	c.stall_timeout_ms = C.uint64_t(o.StallTimeoutMS)
	c.cancel = o.Cancel.get()
	c.progress_interval_ms = C.uint64_t(o.ProgressIntervalMS)
	C.bl_go_set_pull(c, progress, credentials)
	var raw *C.bl_image
	var err *C.bl_error
	if C.bl_pull(s.raw, a.must(reference), c, &raw, &err) != C.BL_OK {
		cause := fate()
		if cause == nil {
			cause = fateOfCredentials()
		}
		return nil, taken(err), cause
	}
	return &Image{raw}, nil, nil
}
