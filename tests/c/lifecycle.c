/* Every function once, errors with all their parts, and frees in every order. */
#include "check.h"

static int lines;

static void log_line(int32_t level, const char *message, void *user_data)
{
  CHECK(level >= BL_LOG_ERROR && level <= BL_LOG_INFO);
  CHECK(strstr(message, "sha256:") != NULL);
  CHECK(user_data == &lines);
  lines++;
}

static void errors(bl_storage *storage)
{
  bl_staged *staged = NULL;
  bl_error *err = NULL;
  CHECK_OK(err, bl_stage_layer(storage, ABC, 3, &staged, &err));
  CHECK_OK(err, bl_write(staged, "xyz", 3, &err));
  CHECK(bl_commit(staged, &err) == BL_E_DIGEST_MISMATCH);
  CHECK(!strcmp(bl_error_expected_digest(err), ABC));
  CHECK(!strncmp(bl_error_actual_digest(err), "sha256:3608bca1e44ea6c4", 23));
  CHECK(strstr(bl_error_message(err), ABC) != NULL);
  CHECK(bl_error_os_errno(err) == 0 && bl_error_http_status(err) == 0 && !bl_error_retryable(err));
  CHECK(!strcmp(bl_error_registry_code(err), ""));
  bl_error_free(err);
  /* Without anybody interested in the error. */
  CHECK(bl_write(staged, "x", 1, NULL) == BL_E_STATE);
  bl_staged_free(staged);
  err = NULL;
  staged = (bl_staged *)1;
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_stage_layer(storage, "sha256:../..", 0, &staged, &err));
  CHECK(staged == NULL);
}

int main(int argc, char **argv)
{
  static const char zeros[1024];
  const char *both[] = {ABC, EMPTY_LAYER};
  bl_storage *storage = open_store(argc, argv);
  bl_staged *staged = NULL;
  bl_cancel *cancel = NULL;
  bl_bytes *bytes = NULL;
  bl_error *err = NULL;
  bl_verify_options verify = bl_verify_options_init();
  bl_extract_options options = bl_extract_options_init();
  bl_extract_result result = bl_extract_result_init();
  bool yes = false;

  CHECK(bl_version_number() == BL_VERSION_NUMBER && !strcmp(bl_version_string(), BL_VERSION_STRING));
  CHECK(!strcmp(bl_status_name(BL_OK), "OK") && !strcmp(bl_status_name(BL_E_LIMIT), "LIMIT"));
  CHECK(!strcmp(bl_status_name(1), "UNKNOWN") && !strcmp(bl_status_name(INT32_MIN), "UNKNOWN"));
  CHECK_FAILS(err, BL_E_INVALID_ARGUMENT, bl_set_log_callback(6, log_line, &lines, &err));
  CHECK_OK(err, bl_set_log_callback(BL_LOG_INFO, log_line, &lines, &err));
  put(storage, ABC, "abc", 3);
  CHECK(lines == 1);
  CHECK_OK(err, bl_set_log_callback(BL_LOG_OFF, NULL, NULL, &err));
  put(storage, EMPTY_LAYER, zeros, sizeof(zeros));
  CHECK(lines == 1);

  CHECK_OK(err, bl_verify_blobs_exist(storage, both, 2, &yes, &err));
  CHECK(yes);
  CHECK_OK(err, bl_has_config(storage, ABC, &yes, &err));
  CHECK(!yes);
  CHECK_OK(err, bl_stage_config(storage, ABC, &staged, &err));
  CHECK_OK(err, bl_write(staged, "abc", 3, &err));
  CHECK(bl_staged_bytes_written(staged) == 3);
  CHECK_OK(err, bl_staged_path(staged, &bytes, &err));
  CHECK(strstr(bl_bytes_str(bytes), ".downloading") != NULL && bl_bytes_len(bytes) == strlen(bl_bytes_str(bytes)));
  bl_bytes_free(bytes);
  CHECK_OK(err, bl_final_path(staged, &bytes, &err));
  bl_bytes_free(bytes);
  CHECK_OK(err, bl_commit(staged, &err));
  bl_staged_free(staged);
  CHECK_OK(err, bl_load_config(storage, ABC, &bytes, &err));
  CHECK(bl_bytes_len(bytes) == 3 && !memcmp(bl_bytes_data(bytes), "abc", 4));
  bl_bytes_free(bytes);
  CHECK_FAILS(err, BL_E_NOT_FOUND, bl_load_manifest(storage, ABC, &bytes, &err));
  CHECK(bytes == NULL);
  CHECK_FAILS(err, BL_E_MALFORMED, bl_save_manifest(storage, ABC, "abc", 3, &err));

  CHECK_OK(err, bl_cancel_new(&cancel, &err));
  CHECK(!bl_cancel_is_triggered(cancel));
  verify.cancel = cancel;
  CHECK_OK(err, bl_verify_layer(storage, ABC, &verify, &err));
  bl_cancel_trigger(cancel);
  CHECK(bl_cancel_is_triggered(cancel));
  CHECK_FAILS(err, BL_E_CANCELLED, bl_verify_layer(storage, ABC, &verify, &err));
  options.cancel = cancel;
  CHECK_FAILS(err, BL_E_CANCELLED, bl_extract_layer(storage, EMPTY_LAYER, &options, &result, &err));
  options.cancel = NULL;
  options.diff_id = EMPTY_LAYER;
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, &options, &result, &err));
  options.cancel = cancel;
  CHECK_FAILS(err, BL_E_CANCELLED, bl_extract_layer(storage, EMPTY_LAYER, &options, NULL, &err));
  bl_cancel_free(cancel);
  options.cancel = NULL;
  CHECK(result.cached == 0 && result.bytes_out == 1024 && !strcmp(result.diff_id, EMPTY_LAYER));
  CHECK_OK(err, bl_extract_layer(storage, EMPTY_LAYER, NULL, NULL, &err));
  options.diff_id = "junk";
  CHECK(bl_extract_layer(storage, EMPTY_LAYER, &options, NULL, &err) == BL_E_INVALID_ARGUMENT);
  CHECK(!strncmp(bl_error_message(err), "options.diff_id: ", 17));
  bl_error_free(err);
  err = NULL;
  CHECK_FAILS(err, BL_E_MALFORMED, bl_extract_layer(storage, ABC, NULL, NULL, &err));
  errors(storage);

  CHECK_OK(err, bl_stage_layer(storage, ABC, 3, &staged, &err));
  bl_storage_close(storage);
  CHECK_OK(err, bl_write(staged, "abc", 3, &err));
  CHECK_OK(err, bl_abort(staged, &err));
  bl_staged_free(staged);

  bl_storage_close(NULL);
  bl_staged_free(NULL);
  bl_bytes_free(NULL);
  bl_error_free(NULL);
  bl_cancel_free(NULL);
  bl_cancel_trigger(NULL);
  CHECK(!bl_cancel_is_triggered(NULL) && bl_staged_bytes_written(NULL) == 0 && bl_bytes_len(NULL) == 0);
  CHECK(!strcmp(bl_bytes_str(NULL), "") && !strcmp(bl_error_message(NULL), "") && bl_error_status(NULL) == BL_OK);
  return 0;
}
