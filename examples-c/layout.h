/*
 * A reader for OCI image layout folders (OCI image-spec, image-layout.md), just large enough for these examples: the
 * manifest of one image, its config and its layers. It uses no JSON library, so that the examples build anywhere.
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  char digest[136];  /* "sha256:<hex>" */
  char diff_id[136]; /* of a layer, else "" */
  int64_t size;      /* bytes */
} layout_blob;

typedef struct {
  char dir[4096];
  layout_blob manifest;
  layout_blob config;
  layout_blob *layers;
  size_t layer_count;
  char error[8448]; /* what is wrong, after -1 */
  int os_errno;     /* why it could not be read; otherwise 0 */
} layout;

/* Reads the image with this tag; with NULL, the first one. 0, or -1 with an error. */
int layout_open(layout *out, const char *dir, const char *tag);
void layout_close(layout *l);

/* The path of a blob in the layout. */
void layout_blob_path(const layout *l, const layout_blob *blob, char *path, size_t size);

#endif
