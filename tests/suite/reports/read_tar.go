// Prints how Go's archive/tar reads each archive of a folder: a line for each entry, as the test of framing compares it.
package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

func main() {
	paths, _ := filepath.Glob(filepath.Join(os.Args[1], "*.tar"))
	sort.Strings(paths)
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			panic(err)
		}
		fmt.Printf("= %s\n", strings.TrimSuffix(filepath.Base(path), ".tar"))
		for reader := tar.NewReader(file); ; {
			header, err := reader.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				fmt.Println("error")
				break
			}
			// What programs that apply layers pass over.
			if header.Typeflag == tar.TypeXGlobalHeader {
				continue
			}
			content, err := io.ReadAll(reader)
			if err != nil {
				fmt.Println("error")
				break
			}
			kind := string(rune(header.Typeflag))
			if kind == "7" {
				kind = "0"
			}
			name := strings.Trim(strings.TrimPrefix(header.Name, "./"), "/")
			fmt.Printf("%s %q %d %q %q\n", kind, name, len(content), header.Linkname, content)
		}
		file.Close()
	}
}
