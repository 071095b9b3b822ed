package boxlite_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/boxlite-ai/boxlite-images/bindings/go/boxlite"
)

func Example() {
	dir, err := os.MkdirTemp("", "boxlite")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	storage, err := boxlite.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer storage.Close()

	// An empty tar archive.
	digest, data := "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", make([]byte, 1024)
	staged, err := storage.StageLayer(digest, int64(len(data)))
	if err != nil {
		log.Fatal(err)
	}
	defer staged.Close()
	if _, err := staged.Write(data); err != nil { // as often as bytes arrive
		log.Fatal(err)
	}
	if err := staged.Commit(); err != nil { // verified, synced, visible
		log.Fatal(err)
	}
	result, err := storage.ExtractLayer(context.Background(), digest, nil)
	if err != nil {
		log.Fatal(err)
	}
	path, err := storage.LayerExtractedPath(digest)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(filepath.Base(path)[:13], result.Entries)
	// Output: sha256-5f70bf 0
}

func ExampleError() {
	dir, err := os.MkdirTemp("", "boxlite")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	storage, err := boxlite.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer storage.Close()

	_, err = storage.OpenImage("debian:12")
	var failed *boxlite.Error
	if errors.As(err, &failed) {
		fmt.Println(errors.Is(err, boxlite.ErrNotFound), failed.Status, failed.Retryable)
	}
	// Output: true NOT_FOUND false
}

func ExampleStorage_Pull() {
	ctx := context.Background()
	storage, err := boxlite.Open("/var/lib/images", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer storage.Close()
	image, err := storage.Pull(ctx, "debian:12", &boxlite.PullOptions{
		Progress: func(p boxlite.PullProgress) error {
			fmt.Printf("%d of %d bytes\n", p.BytesFetched, p.BytesToFetch)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	fmt.Println(image.Info().ManifestDigest)
}
