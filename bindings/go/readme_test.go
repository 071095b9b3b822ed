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

	boxlite "github.com/boxlite-ai/boxlite-images/bindings/go"
)

// What the README quotes.
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
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Skip("the README is not beside the package: ", err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, quoted, _ := strings.Cut(string(readme), "```go\n")
	quoted, _, _ = strings.Cut(quoted, "```")
	if quoted == "" || !bytes.Contains(source, []byte(quoted)) {
		t.Fatal("the README quotes something else")
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
