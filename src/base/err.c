#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kind_name[ERR_KIND_COUNT] = {
#define X(kind, name, grpc) [ERR_##kind] = name,
	ERR_KINDS(X)
#undef X
};

static const int kind_grpc[ERR_KIND_COUNT] = {
#define X(kind, name, grpc) [ERR_##kind] = grpc,
	ERR_KINDS(X)
#undef X
};

void bug_at(const char *file, int line, const char *what)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "knarr: bug at %s:%d: %s\n", file, line, what);

	(void)!write(STDERR_FILENO, text, (size_t)MIN(n, (int)sizeof(text) - 1));
	abort();
}

const char *err_errno_text(int errnum)
{
	const char *text = strerrordesc_np(errnum);

	return text ? text : "Unknown error";
}

static enum err_kind kind_of_errno(int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ESRCH:
		return ERR_NOT_FOUND;
	case EEXIST:
		return ERR_EXISTS;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return ERR_EXHAUSTED;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case ECANCELED:
		return ERR_CANCELLED;
	default:
		return ERR_SYSTEM;
	}
}

int (err_set)(struct err *e, enum err_kind kind, const char *fmt, ...)
{
	va_list ap;

	e->kind = kind;
	e->sys = 0;
	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return -1;
}

int (err_sys)(struct err *e, int errnum, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	e->kind = kind_of_errno(errnum);
	e->sys = errnum;
	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	len = strlen(e->msg);
	(void)snprintf(e->msg + len, sizeof(e->msg) - len, ": %s", err_errno_text(errnum));
	return -1;
}

int (err_in)(struct err *e, const char *fmt, ...)
{
	char context[ERR_MSG_MAX];
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	(void)vsnprintf(context, sizeof(context) - 2, fmt, ap);
	va_end(ap);
	len = strlen(context);
	memcpy(context + len, ": ", 2);
	len += 2;
	if (len >= sizeof(e->msg))
		len = sizeof(e->msg) - 1;
	memmove(e->msg + len, e->msg, sizeof(e->msg) - len);
	memcpy(e->msg, context, len);
	e->msg[sizeof(e->msg) - 1] = '\0';
	return -1;
}

int (err_kind_to)(struct err *e, enum err_kind kind)
{
	e->kind = kind;
	return -1;
}

void err_clear(struct err *e)
{
	e->kind = ERR_NONE;
	e->sys = 0;
	e->msg[0] = '\0';
}

const char *err_kind_name(enum err_kind kind)
{
	return (unsigned)kind < ERR_KIND_COUNT ? kind_name[kind] : "unknown";
}

int err_grpc_code(enum err_kind kind)
{
	return (unsigned)kind < ERR_KIND_COUNT ? kind_grpc[kind] : 2;
}

enum err_kind err_kind_of_grpc(int code)
{
	for (int k = 0; k < ERR_KIND_COUNT; k++)
		if (kind_grpc[k] == code)
			return (enum err_kind)k;
	return ERR_SYSTEM;
}
