#include "options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD = 40 };

void put_line(FILE *to, const char *text)
{
  const unsigned char *c = (const unsigned char *)text;
  for (; *c; c++) {
    int is_c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0;
    putc(*c < 0x20 || *c == 0x7f || is_c1 ? '?' : *c, to);
    c += is_c1;
  }
}

int wrong_usage(const char *command, const char *format, ...)
{
  char message[4096];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof(message), format, values);
  va_end(values);
  fputs("blimg: ", stderr);
  if (command) fprintf(stderr, "%s: ", command);
  put_line(stderr, message);
  if (command)
    fprintf(stderr, "\ntry 'blimg help %s'\n", command);
  else
    fputs("\ntry 'blimg help'\n", stderr);
  return 2;
}

/* How many letters are to be changed, added, left out or swapped to get from one word to the other. */
static size_t distance(const char *a, const char *b)
{
  size_t rows[3][LONGEST_WORD + 1], i, j, long_a = strlen(a), long_b = strlen(b);
  size_t *before_last = rows[0], *last = rows[1], *row = rows[2], *spare;
  if (long_a > LONGEST_WORD || long_b > LONGEST_WORD) return LONGEST_WORD;
  for (j = 0; j <= long_b; j++) last[j] = j;
  for (i = 1; i <= long_a; i++) {
    row[0] = i;
    for (j = 1; j <= long_b; j++) {
      row[j] = last[j - 1] + (a[i - 1] != b[j - 1]);
      if (last[j] + 1 < row[j]) row[j] = last[j] + 1;
      if (row[j - 1] + 1 < row[j]) row[j] = row[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before_last[j - 2] + 1 < row[j])
        row[j] = before_last[j - 2] + 1;
    }
    spare = before_last;
    before_last = last;
    last = row;
    row = spare;
  }
  return last[long_b];
}

/* The better one of what was found and a word, where that is alike. */
static const char *better(const char *found, size_t *nearest, const char *word, const char *candidate)
{
  size_t far = distance(word, candidate);
  if (far >= *nearest || far > 3 || far * 3 > strlen(candidate)) return found;
  *nearest = far;
  return candidate;
}

const char *similar(const char *word, const char *const *words)
{
  const char *found = NULL;
  size_t nearest = LONGEST_WORD;
  for (; *words; words++) found = better(found, &nearest, word, *words);
  return found;
}

const option *find_option(const option *table, const char *text)
{
  for (; table && table->name; table++) {
    size_t length = strlen(table->name);
    if (!strncmp(table->name, text, length) && (!text[length] || text[length] == '=')) return table;
  }
  return NULL;
}

/* Says that an option is unknown, and which may be meant. */
static int unknown_option(const char *command, const char *text, const option *own, const option *common)
{
  const option *tables[2], *known;
  const char *meant = NULL;
  char name[LONGEST_WORD + 1];
  size_t i, nearest = LONGEST_WORD;
  snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, "="), text);
  tables[0] = own;
  tables[1] = common;
  for (i = 0; i < 2; i++)
    for (known = tables[i]; known && known->name; known++) meant = better(meant, &nearest, name, known->name);
  if (meant) return wrong_usage(command, "unknown option %s (did you mean %s?)", name, meant);
  return wrong_usage(command, "unknown option %s", name);
}

int options_parse(options *out, const char *command, char **argv, const option *own, const option *common)
{
  size_t count = 0;
  int has_ended = 0;
  char **arg;
  memset(out, 0, sizeof(*out));
  out->command = command;
  out->own = own;
  out->common = common;
  while (argv[count]) count++;
  out->args = calloc(count + 1, sizeof(*out->args));
  out->given = calloc(count + 1, sizeof(*out->given));
  if (!out->args || !out->given) return wrong_usage(command, "out of memory");
  for (arg = argv; *arg; arg++) {
    const option *known;
    const char *equals;
    if (has_ended || (*arg)[0] != '-' || !(*arg)[1]) {
      out->args[out->arg_count++] = *arg;
      continue;
    }
    if (!strcmp(*arg, "--")) {
      has_ended = 1;
      continue;
    }
    if (!(known = find_option(own, *arg)) && !(known = find_option(common, *arg)))
      return unknown_option(command, *arg, own, common);
    equals = strchr(*arg, '=');
    if (equals && !known->value) return wrong_usage(command, "option %s takes no value", known->name);
    /* A value in brackets may be left out, and so comes with =. */
    if (!equals && known->value && known->value[0] != '[' && !arg[1])
      return wrong_usage(command, "option %s needs a value: %s", known->name, known->value);
    out->given[out->given_count].option = known;
    out->given[out->given_count].value = !known->value            ? NULL
                                         : equals                 ? equals + 1
                                         : known->value[0] == '[' ? ""
                                                                  : *++arg;
    out->given_count++;
  }
  return 0;
}

void options_free(options *o)
{
  free(o->args);
  free(o->given);
}

int check_arguments(const options *o, const char *usage)
{
  char words[8][32];
  size_t count = 0, least = 0, most = 0;
  int is_any = 0;
  const char *word = usage;
  for (; *word && count < 8; word += strspn(word, " ")) {
    size_t length = strcspn(word, " ");
    snprintf(words[count], sizeof(words[count]), "%.*s", (int)length, word);
    is_any |= strstr(words[count], "...") != NULL;
    most++;
    least += words[count++][0] != '[';
    word += length;
  }
  if (o->arg_count < least) {
    size_t missing = o->arg_count;
    words[missing][strcspn(words[missing], ".")] = 0;
    return wrong_usage(o->command, "missing argument %s", words[missing]);
  }
  if (!is_any && o->arg_count > most) return wrong_usage(o->command, "unexpected argument '%s'", o->args[most]);
  return 0;
}

const char *option_next(const options *o, const char *name, size_t *at)
{
  while (*at < o->given_count) {
    const struct given_option *given = &o->given[(*at)++];
    if (!strcmp(given->option->name, name)) return given->value ? given->value : "";
  }
  return NULL;
}

const char *option_text(const options *o, const char *name)
{
  const char *last = NULL, *value;
  size_t at = 0;
  while ((value = option_next(o, name, &at))) last = value;
  return last;
}

uint64_t option_flag(const options *o, const char *name, uint64_t flag)
{
  return option_text(o, name) ? flag : 0;
}

static uint64_t is_no(options *o, const char *name, const char *value, const char *what)
{
  if (!o->is_wrong) wrong_usage(o->command, "%s: '%s' is not %s", name, value, what);
  o->is_wrong = 1;
  return 0;
}

/* Decimal digits, and what follows them. Whether there are any, and they are not too many. */
static int parse_digits(const char *text, uint64_t *value, const char **end)
{
  *value = 0;
  for (*end = text; **end >= '0' && **end <= '9'; ++*end) {
    uint64_t digit = (uint64_t)(**end - '0');
    if (*value > (UINT64_MAX - digit) / 10) return 0;
    *value = *value * 10 + digit;
  }
  return *end != text;
}

uint64_t option_number(options *o, const char *name, uint64_t most)
{
  const char *text = option_text(o, name), *end;
  uint64_t value;
  if (!text) return 0;
  if (!parse_digits(text, &value, &end) || *end) return is_no(o, name, text, "a number");
  return value <= most ? value : is_no(o, name, text, "a number that small");
}

static int parse_size(const char *text, uint64_t *bytes)
{
  static const char units[] = "KMGT";
  const char *end, *unit;
  uint64_t factor = 1;
  if (!parse_digits(text, bytes, &end)) return 0;
  if (*end) {
    if (end[1] || !(unit = strchr(units, *end))) return 0;
    factor = (uint64_t)1 << (10 * (unit - units + 1));
  }
  if (*bytes > UINT64_MAX / factor) return 0;
  *bytes *= factor;
  return 1;
}

uint64_t option_size(options *o, const char *name)
{
  const char *text = option_text(o, name);
  uint64_t bytes = 0;
  if (text && (!parse_size(text, &bytes) || !bytes)) return is_no(o, name, text, "a size, such as 4096 or 512M");
  return bytes;
}

int parse_seconds(const char *text, uint64_t *seconds)
{
  const char *end;
  uint64_t factor = 1;
  if (!parse_digits(text, seconds, &end)) return 0;
  if (!strcmp(end, "ms"))
    return *seconds = *seconds / 1000 + (*seconds % 1000 != 0), 1;
  if (!strcmp(end, "m"))
    factor = 60;
  else if (!strcmp(end, "h"))
    factor = 3600;
  else if (*end && strcmp(end, "s"))
    return 0;
  if (*seconds > UINT64_MAX / factor) return 0;
  *seconds *= factor;
  return 1;
}

uint64_t option_seconds(options *o, const char *name)
{
  const char *text = option_text(o, name);
  uint64_t seconds = 0;
  if (text && (!parse_seconds(text, &seconds) || !seconds)) return is_no(o, name, text, "a time, such as 90, 500ms or 2h");
  return seconds;
}

size_t option_word(options *o, const char *name, const char *const *words)
{
  const char *text = option_text(o, name), *meant;
  char list[512];
  size_t i;
  if (!text) return 0;
  for (i = 0; words[i]; i++)
    if (!strcmp(text, words[i])) return i;
  meant = similar(text, words);
  snprintf(list, sizeof(list), "one of");
  for (i = 0; words[i]; i++)
    snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s %s", i ? "," : "", words[i]);
  if (meant) snprintf(list + strlen(list), sizeof(list) - strlen(list), " (did you mean %s?)", meant);
  return is_no(o, name, text, list), 0;
}
