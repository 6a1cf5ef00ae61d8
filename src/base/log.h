/* The log: one line a fact on stderr, "LEVEL sentence key=value key=value". Rooms below cri/ return
 * their errors; whoever stops an error logs it, once. log_debug is free everywhere. Never log an
 * environment, a credential or a request body. Values with blanks are quoted by LOG_Q/log_quote. */
#ifndef KNARR_BASE_LOG_H
#define KNARR_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* LOG_TEXT: "2026-11-23T16:14:05.123Z info sentence key=value"; LOG_JSON: one object a line with
 * time, level, msg; LOG_LOGFMT: time="…" level=… msg="…", as runc's log has it. Under systemd (JOURNAL_STREAM) text
 * lines carry "<N>" instead of the time. */
enum log_format { LOG_TEXT, LOG_JSON, LOG_LOGFMT };

void log_configure(enum log_level least, enum log_format format, int fd);
bool log_enabled(enum log_level level);
int log_level_parse(const char *name, enum log_level *out, struct err *e);

void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_debug(...) do { if (log_enabled(LOG_DEBUG)) log_write(LOG_DEBUG, __VA_ARGS__); } while (0)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
