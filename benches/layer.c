/*
 * Stores and extracts a layer, then asks for it again many times. Prints what that took, as JSON: peak memory of the idle
 * process and of the busy one in KiB, what the layer is, seconds of the extraction, and microseconds of a call that
 * finds the layer extracted.
 *
 *   layer DIR DIGEST FILE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "boxlite_images.h"

enum { CALLS = 10000 };

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

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
  static char buffer[64 << 10];
  bl_extract_result result = BL_EXTRACT_RESULT_INIT;
  bl_storage *storage;
  bl_staged *staged;
  bl_error *err = NULL;
  long idle, busy;
  double started, seconds;
  int i;
  size_t n;
  FILE *f;
  if (argc != 4 || !(f = fopen(argv[3], "rb"))) return 2;
  check(bl_storage_open(argv[1], NULL, &storage, &err), err);
  idle = peak();
  check(bl_stage_layer(storage, argv[2], 0, &staged, &err), err);
  while ((n = fread(buffer, 1, sizeof(buffer), f)) > 0) check(bl_write(staged, buffer, n, &err), err);
  check(bl_commit(staged, &err), err);
  bl_staged_free(staged);
  started = now();
  check(bl_extract_layer(storage, argv[2], NULL, &result, &err), err);
  seconds = now() - started;
  busy = peak();
  started = now();
  for (i = 0; i < CALLS; i++) {
    bl_extract_result again = BL_EXTRACT_RESULT_INIT;
    check(bl_extract_layer(storage, argv[2], NULL, &again, &err), err);
    if (!again.cached) return 1;
  }
  printf("{\"idle_kib\": %ld, \"peak_kib\": %ld, \"bytes_in\": %llu, \"bytes_out\": %llu, \"entries\": %llu, "
         "\"seconds\": %.6f, \"cached_us\": %.3f}\n",
         idle, busy, (unsigned long long)result.bytes_in, (unsigned long long)result.bytes_out,
         (unsigned long long)result.entries, seconds, (now() - started) / CALLS * 1e6);
  bl_storage_close(storage);
  fclose(f);
  return 0;
}
