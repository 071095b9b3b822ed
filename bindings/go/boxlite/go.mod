module github.com/boxlite-ai/boxlite-images/bindings/go/boxlite

go 1.19
