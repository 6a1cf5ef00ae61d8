#include "base/log.h"

#include "base/str.h"
#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

static enum log_level least = LOG_INFO;
static enum log_format format = LOG_TEXT;
static int out_fd = STDERR_FILENO;
static bool to_journal;

static const char *const level_name[] = { "debug", "info", "warn", "error" };
static const char syslog_level[] = { '7', '6', '4', '3' };

void log_configure(enum log_level level, enum log_format f, int fd)
{
	least = level;
	format = f;
	out_fd = fd;
	to_journal = getenv("JOURNAL_STREAM") != NULL;
}

bool log_enabled(enum log_level level)
{
	return level >= least;
}

int log_level_parse(const char *name, enum log_level *out, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_name); i++)
		if (streq(name, level_name[i])) {
			*out = (enum log_level)i;
			return 0;
		}
	return err_set(e, ERR_INVALID, "\"%s\" is no log level: debug, info, warn or error", name);
}

/* A line is one line, whatever an error message carries: control characters become blanks. */
static size_t add_text(char *line, size_t at, const char *text, bool json)
{
	for (; *text && at < LINE_MAX_BYTES - 8; text++) {
		unsigned char c = (unsigned char)*text;

		if (json && (c == '"' || c == '\\'))
			line[at++] = '\\';
		line[at++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
	}
	return at;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES - 256], line[LINE_MAX_BYTES], when[CLOCK_TEXT_MAX];
	size_t n;
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	clock_format_rfc3339(clock_wall_ns(), when);
	memcpy(when + 23, "Z", 2); /* milliseconds are enough here */
	if (format == LOG_LOGFMT)
		n = (size_t)snprintf(line, sizeof(line), "time=\"%s\" level=%s msg=\"", when, level_name[level]);
	else if (format == LOG_JSON)
		n = (size_t)snprintf(line, sizeof(line), "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":\"", when,
				     level_name[level]);
	else if (to_journal)
		n = (size_t)snprintf(line, sizeof(line), "<%c>", syslog_level[level]);
	else
		n = (size_t)snprintf(line, sizeof(line), "%s %s ", when, level_name[level]);
	n = add_text(line, n, text, format != LOG_TEXT);
	if (format == LOG_LOGFMT)
		line[n++] = '"';
	if (format == LOG_JSON) {
		memcpy(line + n, "\"}", 2);
		n += 2;
	}
	line[n++] = '\n';
	(void)!write(out_fd, line, n); /* where a log line cannot go there is nowhere to say so */
}
