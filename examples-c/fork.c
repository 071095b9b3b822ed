/*
 * A sandbox that forks: an image is started, what it changes becomes an image of its own, and that is started again.
 *
 *   fork STORE LAYOUT WORK      (LAYOUT is an OCI image layout folder, or what docker save writes; WORK is a new folder)
 *
 * Starting is left out: here the change is one file that is written. A host has a guest, or a container, in its place.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "boxlite_images.h"

static int failed(const char *what, bl_error *err)
{
  if (err) fprintf(stderr, "%s: %s: %s\n", what, bl_status_name(bl_error_status(err)), bl_error_message(err));
  bl_error_free(err);
  return 1;
}

/* What the sandbox does. */
static int change(const char *root)
{
  char path[4200];
  FILE *file;
  snprintf(path, sizeof(path), "%s/state", root);
  file = fopen(path, "w");
  if (!file || fputs("what the sandbox knows\n", file) < 0 || fclose(file)) return perror(path), 1;
  return 0;
}

/* An image's root file system in a folder. */
static int start(bl_storage *storage, const bl_image *image, const char *root)
{
  bl_error *err = NULL;
  if (bl_assemble_rootfs(storage, image, root, NULL, NULL, &err)) return failed(root, err);
  printf("%s: started from %s\n", root, bl_image_text(image, BL_IMAGE_MANIFEST_DIGEST, 0));
  return 0;
}

/* What is there by now, on top of the image that it was started from. */
static bl_image *commit(bl_storage *storage, const bl_image *base, const char *root)
{
  bl_commit_source source = BL_COMMIT_SOURCE_INIT;
  bl_commit_options options = BL_COMMIT_OPTIONS_INIT;
  bl_commit_counts counts = BL_COMMIT_COUNTS_INIT;
  bl_tree_options extracted = BL_TREE_OPTIONS_INIT;
  bl_image *image = NULL;
  bl_error *err = NULL;
  source.kind = BL_COMMIT_TREE;
  source.path = root;
  options.name = "fork:1";
  options.message = "what the sandbox changed";
  options.counts = &counts;
  options.extract = &extracted; /* so that the next start need not wait */
  if (bl_commit_image(storage, base, &source, &options, &image, &err)) return failed(root, err), NULL;
  printf("fork:1: %llu entries on top\n", (unsigned long long)counts.entries);
  return image;
}

static int export_to(bl_storage *storage, bl_image *image, const char *archive)
{
  bl_error *err = NULL;
  if (bl_export(storage, &image, 1, archive, NULL, &err)) return failed(archive, err);
  printf("%s: for docker load, podman load and skopeo\n", archive);
  return 0;
}

static int fork_image(bl_storage *storage, const bl_image *base, const char *work)
{
  char first[4096], second[4096], archive[4096];
  bl_image *image;
  int result;
  snprintf(first, sizeof(first), "%s/first", work);
  snprintf(second, sizeof(second), "%s/second", work);
  snprintf(archive, sizeof(archive), "%s/fork.tar", work);
  if (start(storage, base, first) || change(first)) return 1;
  image = commit(storage, base, first);
  if (!image) return 1;
  result = start(storage, image, second) || export_to(storage, image, archive);
  bl_image_free(image);
  return result;
}

int main(int argc, char **argv)
{
  bl_import_options options = BL_IMPORT_OPTIONS_INIT;
  bl_storage *storage = NULL;
  bl_names *names = NULL;
  bl_image *base = NULL;
  bl_error *err = NULL;
  int result = 1;

  if (argc != 4) return fprintf(stderr, "usage: fork STORE LAYOUT WORK\n"), 2;
  if (mkdir(argv[3], 0755)) return fprintf(stderr, "%s: %s\n", argv[3], strerror(errno)), 1;
  options.name = "base:1";
  if (bl_storage_open(argv[1], NULL, &storage, &err) || bl_import(storage, argv[2], &options, &names, &err) ||
      bl_image_open(storage, "base:1", &base, &err))
    failed(argv[2], err);
  else
    result = fork_image(storage, base, argv[3]);
  bl_image_free(base);
  bl_names_free(names);
  bl_storage_close(storage);
  return result;
}
