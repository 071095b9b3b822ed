/*
 * Peak memory of storing and extracting a layer, above that of the idle process.
 *
 *   memory DIR DIGEST FILE     prints KiB
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boxlite_images.h"

static void check(bl_status status, bl_error *err)
{
  if (status == BL_OK) return;
  fprintf(stderr, "%s\n", bl_error_message(err));
  exit(1);
}

/* In KiB. Not getrusage(): that has the peak of whoever started this program. */
static long peak(void)
{
  char line[256];
  long kib = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof(line), f))
    if (!strncmp(line, "VmHWM:", 6)) kib = strtol(line + 6, NULL, 10);
  if (f) fclose(f);
  if (kib <= 0) exit(1);
  return kib;
}

int main(int argc, char **argv)
{
  static char buffer[64 << 10];
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_storage *storage;
  bl_staged *staged;
  bl_error *err = NULL;
  long idle;
  size_t n;
  FILE *f;
  if (argc != 4 || !(f = fopen(argv[3], "rb"))) return 2;
  check(bl_storage_open(argv[1], NULL, &storage, &err), err);
  idle = peak();
  check(bl_stage_layer(storage, argv[2], 0, &staged, &err), err);
  while ((n = fread(buffer, 1, sizeof(buffer), f)) > 0) check(bl_write(staged, buffer, n, &err), err);
  check(bl_commit(staged, &err), err);
  bl_staged_free(staged);
  check(bl_extract_layer(storage, argv[2], NULL, &result, &err), err);
  printf("%ld KiB above %ld KiB idle; %llu bytes in, %llu bytes out, %llu entries\n", peak() - idle, idle,
         (unsigned long long)result.bytes_in, (unsigned long long)result.bytes_out, (unsigned long long)result.entries);
  bl_storage_close(storage);
  fclose(f);
  return 0;
}
