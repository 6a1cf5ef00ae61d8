#include "image/pull_protocol.h"

#include "base/fd.h"

#define TEXT(name, field) { name, JSON_STR, offsetof(struct pull_message, field) }
#define NUMBER(name, field) { name, JSON_I64, offsetof(struct pull_message, field) }
#define FLAG(name, field) { name, JSON_BOOL, offsetof(struct pull_message, field) }

static const struct json_field fields[] = {
	{ "type", JSON_STR, offsetof(struct pull_message, type), JSON_REQUIRED },
	TEXT("reference", reference),
	FLAG("push", push),
	{ "hostsDirs", JSON_STRV, offsetof(struct pull_message, hosts_dirs) },
	{ "certsDirs", JSON_STRV, offsetof(struct pull_message, certs_dirs) },
	TEXT("registriesConf", registries_conf),
	NUMBER("parallel", parallel),
	NUMBER("idleMs", idle_ms),
	TEXT("username", username),
	TEXT("password", password),
	TEXT("auth", auth),
	TEXT("serverAddress", server_address),
	TEXT("identityToken", identity_token),
	TEXT("registryToken", registry_token),
	NUMBER("id", id),
	TEXT("digest", digest),
	TEXT("mediaType", media_type),
	NUMBER("size", size),
	FLAG("manifest", manifest),
	NUMBER("offset", offset),
	TEXT("tag", tag),
	TEXT("mountFrom", mount_from),
	NUMBER("bytes", bytes),
	TEXT("kind", kind),
	TEXT("text", text),
	FLAG("discard", discard),
	FLAG("again", again),
	{ 0 },
};

int pull_send(int sock, const struct pull_message *m, const int *fds, size_t nfds, struct err *e)
{
	auto_buf b = BUF(PULL_MESSAGE_MAX);

	if (json_write(&b, fields, m, e) < 0)
		return -1;
	return fd_send_msg(sock, b.p, b.len, fds, nfds, e);
}

int pull_recv(int sock, struct arena *a, struct pull_message *m, int fds[PULL_FDS_MAX], struct err *e)
{
	char *text = arena_alloc(a, PULL_MESSAGE_MAX);
	struct pull_message got = { 0 };
	size_t nfds = PULL_FDS_MAX;
	ssize_t n;

	for (size_t i = 0; i < PULL_FDS_MAX; i++)
		fds[i] = -1;
	n = fd_recv_msg(sock, text, PULL_MESSAGE_MAX, fds, &nfds, e);
	if (n <= 0)
		return (int)n;
	for (size_t i = nfds; i < PULL_FDS_MAX; i++)
		fds[i] = -1;
	if (json_load(a, (struct str){ text, (size_t)n }, fields, JSON_STRICT, &got, e) < 0) {
		for (size_t i = 0; i < PULL_FDS_MAX; i++)
			fd_close(&fds[i]);
		return err_in(e, "a message of a pull");
	}
	*m = got;
	return 1;
}

enum err_kind pull_kind_of(const char *name)
{
	for (int k = ERR_NONE + 1; k < ERR_KIND_COUNT; k++) {
		if (name && streq(name, err_kind_name((enum err_kind)k)))
			return (enum err_kind)k;
	}
	return ERR_INTERNAL;
}
