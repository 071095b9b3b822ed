/* The rule of option and result structs: shorter is zero, longer must be zero. */
#include "check.h"

/* A struct of a newer header. */
typedef struct {
  bl_extract_options known;
  uint64_t later;
} newer_options;

typedef struct {
  bl_extract_result known;
  uint64_t later;
} newer_result;

static void options(bl_storage *storage)
{
  newer_options o;
  bl_tree_options tree = BL_TREE_OPTIONS_INIT;
  bl_error *err = NULL;
  memset(&o, 0, sizeof(o));
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  o.known.struct_size = sizeof(size_t) - 1;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  o.known.struct_size = 4097;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  /* In the middle of a pointer. */
  for (o.known.struct_size = 9; o.known.struct_size < sizeof(o); o.known.struct_size++)
    if (o.known.struct_size % sizeof(void *))
      CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  /* Short: what lies behind is not read, were it ever so wrong. */
  o.known.struct_size = offsetof(bl_extract_options, tarball_path);
  o.known.tarball_path = "/nonexistent";
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  o.known.tarball_path = NULL;
  o.known.struct_size = sizeof(o.known);
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  o.known.struct_size = sizeof(o);
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  o.later = (uint64_t)1 << 63;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
  o.later = 0;
  tree.flags = (uint64_t)1 << 40;
  o.known.tree = &tree;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_extract_layer(storage, EMPTY_LAYER, &o.known, NULL, &err));
}

static void result(bl_storage *storage)
{
  newer_result r;
  bl_error *err = NULL;
  memset(&r, 0xff, sizeof(r));
  r.known.struct_size = sizeof(r);
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, &r.known, &err));
  CHECK(r.later == 0 && r.known.cached == 1 && r.known.struct_size == sizeof(r));
  CHECK(!strcmp(r.known.diff_id, EMPTY_LAYER));
  memset(&r, 0xff, sizeof(r));
  r.known.struct_size = offsetof(bl_extract_result, bytes_in);
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, &r.known, &err));
  CHECK(r.known.entries == 0 && r.known.bytes_in == UINT64_MAX);
  /* No half of a digest. */
  r.known.struct_size = sizeof(r.known) - 16;
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, &r.known, &err));
  CHECK(r.known.cached == 1 && r.known.diff_id[0] == 0);
  r.known.struct_size = 0;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_extract_layer(storage, EMPTY_LAYER, NULL, &r.known, &err));
  memset(&r, 0xff, sizeof(r));
  r.known.struct_size = sizeof(r.known);
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_extract_layer(storage, ABC, NULL, &r.known, &err));
  CHECK(r.known.entries == 0 && r.known.cached == 0 && r.known.diff_id[0] == 0 && r.later == UINT64_MAX);
}

int main(int argc, char **argv)
{
  static const char zeros[1024];
  bl_storage *storage = open_store(argc, argv), *other = NULL;
  bl_storage_options o = BL_STORAGE_OPTIONS_INIT;
  bl_verify_options v = BL_VERIFY_OPTIONS_INIT;
  bl_error *err = NULL;
  put(storage, EMPTY_LAYER, zeros, sizeof(zeros));
  options(storage);
  result(storage);
  v.struct_size = 0;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_verify_layer(storage, EMPTY_LAYER, &v, &err));
  o.durability = 2;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_storage_open(argv[1], &o, &other, &err));
  o.durability = 0;
  o.flags = (uint64_t)1 << 40;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_storage_open(argv[1], &o, &other, &err));
  o.flags = 0;
  o.reserved = 1;
  CHECK_FAILS(err, BL_E_UNSUPPORTED, bl_storage_open(argv[1], &o, &other, &err));
  bl_storage_close(storage);
  return 0;
}
