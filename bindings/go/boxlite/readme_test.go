package boxlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite"
)

// What the README quotes.
func makeRootfs(ctx context.Context, store, reference, destination string) error {
	storage, err := boxlite.Open(store, nil)
	if err != nil {
		return err
	}
	defer storage.Close()
	image, err := storage.Pull(ctx, reference, nil) // verified, unpacked, named
	if err != nil {
		return err // errors.Is(err, boxlite.ErrUnauthorized)
	}
	defer image.Close()
	_, err = storage.AssembleRootfs(ctx, image, destination, nil)
	return err
}

// What docs/languages.md quotes.
func storeLayer(ctx context.Context, dir, digest string, size int64, data io.Reader) error {
	storage, err := boxlite.Open(dir, nil)
	if err != nil {
		return err
	}
	defer storage.Close()
	staged, err := storage.StageLayer(digest, size)
	if err != nil {
		return err
	}
	defer staged.Close()
	if _, err := io.Copy(staged, data); err != nil {
		return err
	}
	if err := staged.Commit(); err != nil { // verified, synced, visible
		return err // errors.Is(err, boxlite.ErrDigestMismatch)
	}
	if _, err := storage.ExtractLayer(ctx, digest, nil); err != nil {
		return err
	}
	path, err := storage.LayerExtractedPath(digest)
	fmt.Println(path)
	return err
}

func TestReadme(t *testing.T) {
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md", "docs/languages.md"} {
		text, err := os.ReadFile("../../../" + page)
		if err != nil {
			t.Skip("the pages are not beside the package: ", err)
		}
		_, quoted, _ := strings.Cut(string(text), "```go\n")
		quoted, _, _ = strings.Cut(quoted, "```")
		if quoted == "" || !bytes.Contains(source, []byte(quoted)) {
			t.Fatal(page, " quotes something else")
		}
	}
	if err := makeRootfs(context.Background(), t.TempDir(), "not a reference", t.TempDir()+"/root"); !errors.Is(err, boxlite.ErrInvalidArgument) {
		t.Fatal(err)
	}
	ctx, digest := context.Background(), "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	if err := storeLayer(ctx, t.TempDir(), digest, 1024, bytes.NewReader(make([]byte, 1024))); err != nil {
		t.Fatal(err)
	}
	err = storeLayer(ctx, t.TempDir(), digest, 1024, bytes.NewReader([]byte("something else")))
	if !errors.Is(err, boxlite.ErrSizeMismatch) {
		t.Fatal(err)
	}
}
