package boxlite

import (
	"context"
	"strings"
	"time"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite/internal/capi"
)

// PullPolicy is when a registry is asked.
type PullPolicy uint32

// The policies.
const (
	PullMissing PullPolicy = iota
	PullAlways
	PullNewer
	PullNever
)

// PullPhase is what a pull is doing.
type PullPhase uint32

// The phases.
const (
	PullResolving PullPhase = iota
	PullFetching
	PullDone
)

// LayerProgress is how far one layer of a pull came.
type LayerProgress struct {
	Digest                            string
	Done                              bool
	Bytes, BytesStored, BytesUnpacked uint64
}

// PullProgress is how far a pull came.
type PullProgress struct {
	Phase                                                   PullPhase
	LayersDone                                              uint64
	BytesToFetch, BytesFetched, BytesPresent, BytesUnpacked uint64
	EntriesUnpacked                                         uint64
	Layers                                                  []LayerProgress
}

// RegistryOptions are for one host.
type RegistryOptions struct {
	Host                                 string
	PlainHTTP, SkipVerify                bool
	CAFile, ClientCertificate, ClientKey string
	// Headers are like "Name: value".
	Headers, Mirrors []string
}

// PullOptions say how to pull; nil and zero are the defaults.
type PullOptions struct {
	Policy PullPolicy
	// Platform is like "linux/arm64/v8"; "" is this machine's.
	Platform string
	// StrictPlatform takes no variant below the one that is wanted.
	StrictPlatform bool
	// NoUnpack stores the layers only.
	NoUnpack bool
	// Tree is what the trees look like, and what a layer may cost.
	Tree TreeOptions
	// User and Password are for the registry of the reference.
	User, Password string
	// Credentials is asked for each host; where it gives nothing, AuthFile and AuthFiles are.
	Credentials func(host, repository string) (user, password string, err error)
	// AuthFile is a file of credentials, in the form of docker or podman.
	AuthFile string
	// AuthFiles: read those of other tools, where there is no AuthFile.
	AuthFiles bool
	// NoCredentialHelpers: do not run the programs that a file of credentials names.
	NoCredentialHelpers bool
	// Registries say what is special about single hosts.
	Registries []RegistryOptions
	// HostsDir is a folder of <registry>/hosts.toml, as containerd has it.
	HostsDir string
	// MirrorsOnly never asks the registry itself.
	MirrorsOnly bool
	// Proxy is for all requests: "http://host:port".
	Proxy string
	// ProxyEnvironment: take the proxies from HTTPS_PROXY and so on.
	ProxyEnvironment bool
	// UserAgent is what registries are told of the client.
	UserAgent string
	// MaxBytes of the layers together, compressed; 0 is no limit.
	MaxBytes uint64
	// Parallel layers at a time; 0 is 4.
	Parallel int
	// ConnectTimeout is how long a connection may take; 0 is 10 s.
	ConnectTimeout time.Duration
	// StallTimeout is how long a server may be silent; 0 is 30 s.
	StallTimeout time.Duration
	// Progress ends the pull where it gives an error.
	Progress func(PullProgress) error
	// ProgressInterval is how often Progress is called; 0 is 100 ms.
	ProgressInterval time.Duration
}

// Pull brings an image from a registry: verified, unpacked and named.
func (s *Storage) Pull(ctx context.Context, reference string, options *PullOptions) (image *Image, err error) {
	o := PullOptions{}
	if options != nil {
		o = *options
	}
	if strings.Contains(o.User+o.Password, "\x00") {
		return nil, &Error{Status: ErrInvalidArgument, Message: "User or Password has a zero in it"}
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	var raw *capi.Image
	err = within(ctx, func(cancel *capi.Cancel) (failed *capi.Error, cause error) {
		raw, failed, cause = s.raw.Pull(reference, o.c(cancel))
		return failed, cause
	})
	if err != nil {
		return nil, err
	}
	return opened(raw)
}

func (o *PullOptions) c(cancel *capi.Cancel) *capi.PullOptions {
	c := &capi.PullOptions{
		Flags: flag(o.NoUnpack, pullNoUnpack) | flag(o.StrictPlatform, pullStrictPlatform) | flag(o.AuthFiles, pullAuthFiles) |
			flag(o.NoCredentialHelpers, pullNoCredentialHelpers) | flag(o.ProxyEnvironment, pullProxyEnvironment) |
			flag(o.MirrorsOnly, pullMirrorsOnly),
		Policy: uint32(o.Policy), Parallel: uint32(o.Parallel), Platform: o.Platform, User: o.User, Password: o.Password,
		AuthFile: o.AuthFile, HostsDir: o.HostsDir, Proxy: o.Proxy, UserAgent: o.UserAgent, Tree: *o.Tree.c(),
		MaxBytes: o.MaxBytes, ConnectTimeoutMS: milliseconds(o.ConnectTimeout), StallTimeoutMS: milliseconds(o.StallTimeout),
		ProgressIntervalMS: milliseconds(o.ProgressInterval), Cancel: cancel,
	}
	for _, r := range o.Registries {
		c.Registries = append(c.Registries, capi.RegistryOptions{
			Flags: flag(r.PlainHTTP, registryPlainHTTP) | flag(r.SkipVerify, registrySkipVerify), Host: r.Host, CAFile: r.CAFile,
			ClientCertificate: r.ClientCertificate, ClientKey: r.ClientKey, Headers: r.Headers, Mirrors: r.Mirrors,
		})
	}
	if ask := o.Credentials; ask != nil {
		c.Credentials = func(q *capi.Question) (err error) {
			q.User, q.Password, err = ask(q.Host, q.Repository)
			return err
		}
	}
	if tell := o.Progress; tell != nil {
		c.Progress = func(p capi.PullProgress) error {
			progress := PullProgress{
				Phase: PullPhase(p.Phase), LayersDone: p.LayersDone, BytesToFetch: p.BytesToFetch, BytesFetched: p.BytesFetched,
				BytesPresent: p.BytesPresent, BytesUnpacked: p.BytesUnpacked, EntriesUnpacked: p.EntriesUnpacked,
			}
			for _, layer := range p.Layers {
				progress.Layers = append(progress.Layers, LayerProgress(layer))
			}
			return tell(progress)
		}
	}
	return c
}
