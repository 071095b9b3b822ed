/*
 * The same bytes into a file, hashed while written: by the library, or by the plain loop that one would write instead.
 *
 *   write store DIR MIB     bl_write() and bl_commit() in pieces of 64 KiB, without syncs
 *   write plain DIR MIB     OpenSSL's SHA-256 and write(2) in the same pieces
 *
 * Prints the seconds that it took. benches/measure.py runs both in turn.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "boxlite_images.h"

#define PIECE ((size_t)64 << 10)

static unsigned char pieces[16][PIECE];

static void die(const char *what)
{
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

/* The same for every run; not compressible and not all alike. */
static void make_pieces(void)
{
  uint64_t x = 88172645463325252u;
  size_t i, j;
  for (i = 0; i < 16; i++)
    for (j = 0; j < PIECE; j++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      pieces[i][j] = (unsigned char)x;
    }
}

static void digest_of_all(size_t count, char *text)
{
  unsigned char hash[32];
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  size_t i;
  EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
  for (i = 0; i < count; i++) EVP_DigestUpdate(ctx, pieces[i % 16], PIECE);
  EVP_DigestFinal_ex(ctx, hash, NULL);
  EVP_MD_CTX_free(ctx);
  strcpy(text, "sha256:");
  for (i = 0; i < 32; i++) sprintf(text + 7 + 2 * i, "%02x", hash[i]);
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void with_store(const char *dir, size_t count, const char *digest)
{
  bl_storage_options options = BL_STORAGE_OPTIONS_INIT;
  bl_storage *storage;
  bl_staged *staged;
  size_t i;
  options.durability = BL_DURABILITY_NONE;
  if (bl_storage_open(dir, &options, &storage, NULL)) die("open");
  if (bl_stage_layer(storage, digest, (int64_t)(count * PIECE), &staged, NULL)) die("stage");
  for (i = 0; i < count; i++)
    if (bl_write(staged, pieces[i % 16], PIECE, NULL)) die("write");
  if (bl_commit(staged, NULL)) die("commit");
  bl_staged_free(staged);
  bl_storage_close(storage);
}

static void plainly(const char *dir, size_t count, const char *digest)
{
  char path[4096], found[80];
  unsigned char hash[32];
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  size_t i;
  int fd;
  snprintf(path, sizeof(path), "%s/blob", dir);
  if ((fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0) die("open");
  EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
  for (i = 0; i < count; i++) {
    EVP_DigestUpdate(ctx, pieces[i % 16], PIECE);
    if (write(fd, pieces[i % 16], PIECE) != (ssize_t)PIECE) die("write");
  }
  EVP_DigestFinal_ex(ctx, hash, NULL);
  EVP_MD_CTX_free(ctx);
  close(fd);
  strcpy(found, "sha256:");
  for (i = 0; i < 32; i++) sprintf(found + 7 + 2 * i, "%02x", hash[i]);
  if (strcmp(found, digest)) die("digest");
}

int main(int argc, char **argv)
{
  char digest[80];
  size_t count;
  double start;
  if (argc != 4) return 2;
  count = (size_t)atol(argv[3]) * 16;
  make_pieces();
  digest_of_all(count, digest);
  start = now();
  if (!strcmp(argv[1], "store"))
    with_store(argv[2], count, digest);
  else
    plainly(argv[2], count, digest);
  printf("%.4f\n", now() - start);
  return 0;
}
