/* The vocabulary of the C tests. */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boxlite_images.h"

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                  \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* A call that must succeed: CHECK_OK(err, bl_x(..., &err)). */
#define CHECK_OK(err, call)                                                                                            \
  do {                                                                                                                 \
    bl_status status_ = (call);                                                                                        \
    if (status_ != BL_OK) {                                                                                            \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, bl_status_name(status_), bl_error_message(err));          \
      exit(1);                                                                                                         \
    }                                                                                                                  \
    CHECK((err) == NULL);                                                                                              \
  } while (0)

/* A call that must fail with this status; the error is freed. */
#define CHECK_FAILS(err, expected, call)                                                                               \
  do {                                                                                                                 \
    bl_status status_ = (call);                                                                                        \
    if (status_ != (expected)) {                                                                                       \
      fprintf(stderr, "%s:%d: %s instead of %s: %s\n", __FILE__, __LINE__, bl_status_name(status_),                    \
              bl_status_name(expected), bl_error_message(err));                                                        \
      exit(1);                                                                                                         \
    }                                                                                                                  \
    CHECK(bl_error_status(err) == (expected));                                                                         \
    CHECK(bl_error_message(err)[0] != 0);                                                                              \
    bl_error_free(err);                                                                                                \
    (err) = NULL;                                                                                                      \
  } while (0)

/* "abc", and an empty tar archive of 1,024 zeros. */
#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY_LAYER "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

/* An image of that layer, whose config is "abc". */
#define ONE_LAYER_IMAGE "sha256:34836ba77a9d7a240816a0749cc3c22239747c97b117539fcbdf7122760ff754"
#define ONE_LAYER_MANIFEST \
  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"text/plain\",\"digest\":\"" ABC "\"," \
  "\"size\":3},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" EMPTY_LAYER "\"," \
  "\"size\":1024}]}"

/* How many names a directory has: descriptors in /proc/self/fd, threads in /proc/self/task. */
static inline int count(const char *dir)
{
  DIR *d = opendir(dir);
  int n = 0;
  CHECK(d != NULL);
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

/* The store to work in: the only argument of every test program. */
static inline bl_storage *open_store(int argc, char **argv)
{
  bl_storage_options options = BL_STORAGE_OPTIONS_INIT;
  bl_storage *storage = NULL;
  bl_error *err = NULL;
  CHECK(argc == 2);
  options.durability = BL_DURABILITY_NONE;
  CHECK_OK(err, bl_storage_open(argv[1], &options, &storage, &err));
  return storage;
}

/* How often to do something: less under valgrind, which has one processor and looks for other things than races. */
static inline int rounds(int all)
{
  return getenv("BL_TEST_SLOW") ? (all + 7) / 8 : all;
}

static inline void put(bl_storage *storage, const char *digest, const void *data, size_t len)
{
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  CHECK_OK(err, bl_stage_layer(storage, digest, (int64_t)len, &staged, &err));
  CHECK_OK(err, bl_write(staged, data, len, &err));
  CHECK_OK(err, bl_commit(staged, &err));
  bl_staged_free(staged);
}

#endif
