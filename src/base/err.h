/* The one error value of the house: what kind, which errno, and a sentence that names the thing.
 *
 * Every function that can fail takes `struct err *e` last, returns -1 after setting it exactly once,
 * and changes no out-parameter. It is a plain value of fixed size: never freed, freely copied, sent
 * as bytes from a container's child process up to the gRPC status.
 *
 * The leaf says what failed; a caller adds context with err_in() only if it knows more. Callers
 * branch on `e->kind`, never on the text. None of these functions blocks or allocates. */
#ifndef KNARR_BASE_ERR_H
#define KNARR_BASE_ERR_H

#include "base/base.h"

/* kind, name, gRPC status code (https://grpc.github.io/grpc/core/md_doc_statuscodes.html) */
#define ERR_KINDS(X)                                     \
	X(NONE, "ok", 0)                                 \
	X(CANCELLED, "cancelled", 1)                     \
	X(SYSTEM, "system", 2)                           \
	X(INVALID, "invalid", 3)                         \
	X(TIMEOUT, "timeout", 4)                         \
	X(NOT_FOUND, "not found", 5)                     \
	X(EXISTS, "exists", 6)                           \
	X(DENIED, "denied", 7)                           \
	X(EXHAUSTED, "exhausted", 8)                     \
	X(STATE, "wrong state", 9)                       \
	X(UNIMPLEMENTED, "unimplemented", 12)            \
	X(INTERNAL, "internal", 13)                      \
	X(UNAVAILABLE, "unavailable", 14)                \
	X(DATA_LOSS, "corrupt", 15)                      \
	X(UNAUTHENTICATED, "unauthenticated", 16)

enum err_kind {
#define X(kind, name, grpc) ERR_##kind,
	ERR_KINDS(X)
#undef X
	ERR_KIND_COUNT
};

enum { ERR_MSG_MAX = 1000 };

struct err {
	enum err_kind kind;
	int sys; /* the errno of an err_sys(), else 0 */
	char msg[ERR_MSG_MAX];
};

/* Sets a finding of our own. Always returns -1, so that a leaf is one line. */
int err_set(struct err *e, enum err_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Sets what the kernel said: ": <strerror>" follows the text. The kind follows from errno
 * (ENOENT: NOT_FOUND, EEXIST: EXISTS, EACCES and EPERM: DENIED, ENOSPC, EMFILE, ENOMEM…: EXHAUSTED,
 * ETIMEDOUT: TIMEOUT; all else SYSTEM). Returns -1. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts context before the message: "context: message". A text that no longer fits is cut at its
 * end. Returns -1. */
int err_in(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Changes the kind and keeps the text. Returns -1. */
int err_kind_to(struct err *e, enum err_kind kind);

/* The compiler is told that these return -1: else it fears for every out-parameter of a function
 * that ends with one of them. */
#define err_set(...) __extension__({ (void)err_set(__VA_ARGS__); -1; })
#define err_sys(...) __extension__({ (void)err_sys(__VA_ARGS__); -1; })
#define err_in(...) __extension__({ (void)err_in(__VA_ARGS__); -1; })
#define err_kind_to(...) __extension__({ (void)err_kind_to(__VA_ARGS__); -1; })

void err_clear(struct err *e);
const char *err_kind_name(enum err_kind kind);
int err_grpc_code(enum err_kind kind);
enum err_kind err_kind_of_grpc(int code);

/* The name of an errno ("No such file or directory"), safe in every thread and without locale. */
const char *err_errno_text(int errnum);

#endif
