/* What stands between C's callbacks, which get a pointer, and Go's, which are found by a number. */
#ifndef BOXLITE_GO_SHIM_H
#define BOXLITE_GO_SHIM_H

#include <boxlite_images.h>
#include <stdint.h>
#include <stdlib.h>

extern int32_t blGoProgress(bl_progress *progress, uintptr_t handle);
extern int32_t blGoPullProgress(bl_pull_progress *progress, uintptr_t handle);
extern int32_t blGoCredentials(char *host, char *repository, bl_credentials *answer, uintptr_t handle);
extern void blGoRemoved(char *object, uintptr_t handle);
extern void blGoFinding(bl_finding *finding, uintptr_t handle);
extern void blGoLog(int32_t level, char *message, uintptr_t handle);

static inline int32_t bl_progress_shim(const bl_progress *progress, void *data)
{
  return blGoProgress((bl_progress *)progress, (uintptr_t)data);
}
static inline int32_t bl_pull_progress_shim(const bl_pull_progress *progress, void *data)
{
  return blGoPullProgress((bl_pull_progress *)progress, (uintptr_t)data);
}
static inline int32_t bl_credentials_shim(const char *host, const char *repository, bl_credentials *answer, void *data)
{
  return blGoCredentials((char *)host, (char *)repository, answer, (uintptr_t)data);
}
static inline void bl_removed_shim(const char *object, void *data)
{
  blGoRemoved((char *)object, (uintptr_t)data);
}
static inline void bl_finding_shim(const bl_finding *finding, void *data)
{
  blGoFinding((bl_finding *)finding, (uintptr_t)data);
}
static inline void bl_log_shim(int32_t level, const char *message, void *data)
{
  blGoLog(level, (char *)message, (uintptr_t)data);
}

/* Handles are numbers, which Go's checker would take for bad pointers. */
static inline void bl_go_set_progress(bl_progress_callback *callback, void **data, uintptr_t handle)
{
  *callback = bl_progress_shim;
  *data = (void *)handle;
}
static inline void bl_go_set_pull(bl_pull_options *options, uintptr_t progress, uintptr_t credentials)
{
  if (progress) {
    options->progress = bl_pull_progress_shim;
    options->progress_data = (void *)progress;
  }
  if (credentials) {
    options->credentials = bl_credentials_shim;
    options->credentials_data = (void *)credentials;
  }
}
static inline void bl_go_set_removed(bl_gc_options *options, uintptr_t handle)
{
  options->on_removed = bl_removed_shim;
  options->on_removed_data = (void *)handle;
}
static inline void bl_go_set_finding(bl_check_options *options, uintptr_t handle)
{
  options->on_finding = bl_finding_shim;
  options->on_finding_data = (void *)handle;
}
static inline bl_status bl_go_set_log(int32_t level, uintptr_t handle, bl_error **err)
{
  return bl_set_log_callback(level, handle ? bl_log_shim : NULL, (void *)handle, err);
}

#endif
