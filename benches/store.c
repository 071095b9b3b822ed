/*
 * What the store adds to what the disk takes. Prints medians in microseconds, as JSON.
 *
 *   store commit DIR   blobs of 4 KiB, each durable when it is committed, against write, fsync, rename and fsync of the
 *                      directory by hand, in turns
 *   store open DIR     opening and closing a store of 10,000 blobs
 */
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "boxlite_images.h"

enum { COMMITS = 300, OPENS = 200, BLOBS = 10000, SIZE = 4096 };

static void check(bl_status status, bl_error *err)
{
  if (status == BL_OK) return;
  fprintf(stderr, "%s\n", bl_error_message(err));
  exit(1);
}

static void must(int is_true, const char *what)
{
  if (is_true) return;
  perror(what);
  exit(1);
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *one, const void *other)
{
  const double a = *(const double *)one, b = *(const double *)other;
  return (a > b) - (a < b);
}

static double median(double *all, size_t count)
{
  qsort(all, count, sizeof(*all), compare);
  return all[count / 2];
}

static void digest_of(const unsigned char *data, char digest[72])
{
  unsigned char hash[SHA256_DIGEST_LENGTH];
  int i;
  SHA256(data, SIZE, hash);
  strcpy(digest, "sha256:");
  for (i = 0; i < SHA256_DIGEST_LENGTH; i++) sprintf(digest + 7 + 2 * i, "%02x", hash[i]);
}

static double by_hand(int directory, int number, const unsigned char *data)
{
  char partial[32], name[32];
  double started = now();
  int fd;
  snprintf(partial, sizeof(partial), "%d.partial", number);
  snprintf(name, sizeof(name), "%d", number);
  fd = openat(directory, partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  must(fd >= 0, "open");
  must(write(fd, data, SIZE) == SIZE, "write");
  must(!fsync(fd), "fsync");
  must(!close(fd), "close");
  must(!renameat(directory, partial, directory, name), "rename");
  must(!fsync(directory), "fsync");
  return now() - started;
}

static double by_store(bl_storage *storage, const char *digest, const unsigned char *data)
{
  double started = now();
  bl_staged *staged;
  bl_error *err = NULL;
  check(bl_stage_layer(storage, digest, SIZE, &staged, &err), err);
  check(bl_write(staged, data, SIZE, &err), err);
  check(bl_commit(staged, &err), err);
  bl_staged_free(staged);
  return now() - started;
}

static void commits(const char *dir)
{
  static double store[COMMITS], hand[COMMITS];
  static unsigned char data[SIZE];
  char path[4096], digest[72];
  bl_storage *storage;
  bl_error *err = NULL;
  int i, directory;
  snprintf(path, sizeof(path), "%s/store", dir);
  check(bl_storage_open(path, NULL, &storage, &err), err);
  snprintf(path, sizeof(path), "%s/hand", dir);
  must(!mkdir(path, 0755), "mkdir");
  directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  must(directory >= 0, "open");
  for (i = 0; i < COMMITS; i++) {
    memcpy(data, &i, sizeof(i));
    digest_of(data, digest);
    if (i % 2) hand[i] = by_hand(directory, i, data);
    store[i] = by_store(storage, digest, data);
    if (!(i % 2)) hand[i] = by_hand(directory, i, data);
  }
  close(directory);
  bl_storage_close(storage);
  printf("{\"store\": %.1f, \"hand\": %.1f}\n", median(store, COMMITS), median(hand, COMMITS));
}

static void opens(const char *dir)
{
  static double all[OPENS];
  static unsigned char data[SIZE];
  char path[4096], digest[72];
  bl_storage_options quick = BL_STORAGE_OPTIONS_INIT;
  bl_storage *storage;
  bl_error *err = NULL;
  int i;
  quick.durability = BL_DURABILITY_NONE;
  snprintf(path, sizeof(path), "%s/store", dir);
  check(bl_storage_open(path, &quick, &storage, &err), err);
  for (i = 0; i < BLOBS; i++) {
    memcpy(data, &i, sizeof(i));
    digest_of(data, digest);
    by_store(storage, digest, data);
  }
  bl_storage_close(storage);
  for (i = 0; i < OPENS; i++) {
    double started = now();
    check(bl_storage_open(path, NULL, &storage, &err), err);
    all[i] = now() - started;
    bl_storage_close(storage);
  }
  printf("{\"open\": %.1f}\n", median(all, OPENS));
}

int main(int argc, char **argv)
{
  if (argc != 3) return 2;
  if (!strcmp(argv[1], "commit"))
    commits(argv[2]);
  else if (!strcmp(argv[1], "open"))
    opens(argv[2]);
  else
    return 2;
  return 0;
}
