/*
 * The main job: put an image's layers into a store and extract them.
 *
 *   quickstart STORE LAYOUT     (LAYOUT is an OCI image layout folder)
 */
#include <stdio.h>

#include "boxlite_images.h"
#include "layout.h"

static int failed(const char *what, bl_error *err)
{
  if (err) fprintf(stderr, "%s: %s: %s\n", what, bl_status_name(bl_error_status(err)), bl_error_message(err));
  bl_error_free(err);
  return 1;
}

/* Any source of bytes will do; here it is a file. */
static int copy(bl_staged *staged, const char *path, bl_error **err)
{
  static char buffer[65536];
  bl_status status = BL_OK;
  size_t n;
  FILE *f = fopen(path, "rb");
  if (!f) return perror(path), BL_E_IO;
  while (status == BL_OK && (n = fread(buffer, 1, sizeof(buffer), f)) > 0)
    status = bl_write(staged, buffer, n, err);
  if (status == BL_OK && ferror(f)) perror(path), status = BL_E_IO;
  fclose(f);
  return status;
}

static int store_and_extract(bl_storage *storage, const layout *image, const layout_blob *layer)
{
  bl_extract_options options = BL_EXTRACT_OPTIONS_INIT;
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_staged *staged = NULL;
  bl_bytes *where = NULL;
  bl_error *err = NULL;
  char path[8192];

  layout_blob_path(image, layer, path, sizeof(path));
  if (bl_stage_layer(storage, layer->digest, layer->size, &staged, &err)) return failed("stage", err);
  if (copy(staged, path, &err) || bl_commit(staged, &err)) {
    bl_staged_free(staged);
    return failed(path, err);
  }
  bl_staged_free(staged);

  options.diff_id = layer->diff_id;
  if (bl_extract_layer(storage, layer->digest, &options, &result, &err)) return failed("extract", err);
  if (bl_layer_extracted_path(storage, layer->digest, &where, &err)) return failed("path", err);
  if (result.cached)
    printf("%s: extracted before\n", bl_bytes_str(where));
  else
    printf("%s: %llu entries\n", bl_bytes_str(where), (unsigned long long)result.entries);
  bl_bytes_free(where);
  return 0;
}

int main(int argc, char **argv)
{
  bl_storage *storage = NULL;
  bl_error *err = NULL;
  layout image;
  size_t i;
  int result = 0;

  if (argc != 3) return fprintf(stderr, "usage: quickstart STORE LAYOUT\n"), 2;
  if (layout_open(&image, argv[2], NULL)) return fprintf(stderr, "%s\n", image.error), 1;
  if (bl_storage_open(argv[1], NULL, &storage, &err)) result = failed(argv[1], err);
  for (i = 0; i < image.layer_count && !result; i++) result = store_and_extract(storage, &image, &image.layers[i]);
  bl_storage_close(storage);
  layout_close(&image);
  return result;
}
