module github.com/boxlite-ai/boxlite-images/bindings/go

go 1.19
