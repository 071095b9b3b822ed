/*
 * What stands on a command line: options anywhere, as "--name value" or "--name=value", "--" for their end, and
 * arguments. Whatever is wrong with it is one line on stderr, and where help is.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* An option that may be given. A table of them ends with a name that is NULL. */
typedef struct {
  const char *name;  /* "--size" */
  const char *value; /* what its value is called in help; NULL where it takes none */
  const char *about;
} option;

typedef struct {
  const char *command; /* for messages; NULL for none */
  const option *own, *common;
  char **args; /* what is no option; ends with NULL */
  size_t arg_count;
  struct given_option {
    const option *option;
    const char *value;
  } *given;
  size_t given_count;
  int is_wrong; /* a value is not what it should be, which was said */
} options;

/* Writes a text without what a terminal would take for more than text: one line. */
void put_line(FILE *to, const char *text);

/* Says what is wrong, and where help is; gives 2, the exit status. */
int wrong_usage(const char *command, const char *format, ...)
#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  ;

/* The table's option of this name, which "=" and a value may follow; NULL for none. */
const option *find_option(const option *table, const char *text);
/* The word that is most like this one, where one is alike; NULL for none. `words` ends with NULL. */
const char *similar(const char *word, const char *const *words);

/* Takes a command line apart; 0, or 2 after a message. To be freed in both cases. */
int options_parse(options *out, const char *command, char **argv, const option *own, const option *common);
void options_free(options *o);
/* That there are as many arguments as "IMAGE... OUT [TAG]" says. */
int check_arguments(const options *o, const char *usage);

/* Of an option that was given several times the last counts. */
const char *option_text(const options *o, const char *name);
/* Each value in turn, from *at = 0; NULL after the last. */
const char *option_next(const options *o, const char *name, size_t *at);
/* `flag` where it was given, otherwise 0. */
uint64_t option_flag(const options *o, const char *name, uint64_t flag);
/* 0 where it was not given; what is no such value is_wrong. */
uint64_t option_number(options *o, const char *name, uint64_t most);
/* Bytes, or with K, M, G, T, in powers of 1024. */
uint64_t option_size(options *o, const char *name);
/* As parse_seconds(). */
uint64_t option_seconds(options *o, const char *name);
/* The index of the value in `words`, which ends with NULL; 0 where it was not given. */
size_t option_word(options *o, const char *name, const char *const *words);

/* Seconds, or with ms, s, m, h; rounded up to seconds. */
int parse_seconds(const char *text, uint64_t *seconds);

#endif
