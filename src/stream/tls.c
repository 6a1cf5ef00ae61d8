#include "stream/tls.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
/* A type of OpenSSL's has the name of one of our error kinds. */
#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/ssl.h>
#undef ERR_STATE

/* What is used of the library, under its own names. */
#define FUNCTIONS(X)                                                                                      \
	X(TLS_server_method) X(SSL_CTX_new) X(SSL_CTX_free) X(SSL_CTX_ctrl) X(SSL_CTX_use_certificate_chain_file) \
	X(SSL_CTX_use_PrivateKey_file) X(SSL_CTX_check_private_key) X(SSL_CTX_load_verify_locations)       \
	X(SSL_load_client_CA_file) X(SSL_CTX_set_client_CA_list) X(SSL_CTX_set_verify) X(SSL_CTX_set_options) \
	X(SSL_CTX_set_session_id_context) X(SSL_new) X(SSL_free) X(SSL_set_fd) X(SSL_set_accept_state)     \
	X(SSL_read) X(SSL_write) X(SSL_get_error)

struct tls {
	void *library;
	SSL_CTX *ctx;
#define X(name) __typeof__(&name) name;
	FUNCTIONS(X)
#undef X
	void (*ERR_clear_error)(void);
	unsigned long (*ERR_get_error)(void);
	void (*ERR_error_string_n)(unsigned long code, char *text, size_t n);
};

struct tls_session {
	struct tls *tls;
	SSL *ssl;
	bool wants_to_write;
};

static int load(struct tls *t, struct err *e)
{
	t->library = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
	if (!t->library)
		return err_set(e, ERR_SYSTEM, "stream TLS: %s", dlerror());
#define X(name)                                                                         \
	t->name = (__typeof__(t->name))(uintptr_t)dlsym(t->library, #name);             \
	if (!t->name)                                                                   \
		return err_set(e, ERR_SYSTEM, "stream TLS: libssl.so.3 has no " #name);
	FUNCTIONS(X)
	X(ERR_clear_error) /* of libcrypto, which came along */
	X(ERR_get_error)
	X(ERR_error_string_n)
#undef X
	return 0;
}

static int failed(struct tls *t, const char *what, const char *file, struct err *e)
{
	char text[256] = "no reason is given";
	unsigned long code = t->ERR_get_error();

	if (code)
		t->ERR_error_string_n(code, text, sizeof(text));
	return err_set(e, ERR_INVALID, "stream TLS: %s %s: %s", what, file, text);
}

static int ask_clients(struct tls *t, const char *file, struct err *e)
{
	STACK_OF(X509_NAME) *names;

	if (t->SSL_CTX_load_verify_locations(t->ctx, file, NULL) != 1)
		return failed(t, "client_ca", file, e);
	names = t->SSL_load_client_CA_file(file);
	if (!names)
		return failed(t, "client_ca", file, e);
	t->SSL_CTX_set_client_CA_list(t->ctx, names);
	t->SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

static int configure(struct tls *t, const char *cert, const char *key, const char *client_ca, struct err *e)
{
	t->ctx = t->SSL_CTX_new(t->TLS_server_method());
	if (!t->ctx)
		return failed(t, "a context for", cert, e);
	(void)t->SSL_CTX_ctrl(t->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL); /* OpenSSL 3 has it */
	(void)t->SSL_CTX_ctrl(t->ctx, SSL_CTRL_MODE,
			      SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS,
			      NULL); /* tells the modes, never fails */
	(void)t->SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION);
	(void)t->SSL_CTX_ctrl(t->ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
	(void)t->SSL_CTX_set_session_id_context(t->ctx, (const unsigned char *)"knarr", 5); /* short enough */
	if (t->SSL_CTX_use_certificate_chain_file(t->ctx, cert) != 1)
		return failed(t, "cert", cert, e);
	if (t->SSL_CTX_use_PrivateKey_file(t->ctx, key, SSL_FILETYPE_PEM) != 1 || t->SSL_CTX_check_private_key(t->ctx) != 1)
		return failed(t, "key", key, e);
	return client_ca ? ask_clients(t, client_ca, e) : 0;
}

int tls_new(const char *cert, const char *key, const char *client_ca, struct tls **out, struct err *e)
{
	struct tls *t = mem_new0(struct tls);

	if (load(t, e) < 0 || configure(t, cert, key, client_ca, e) < 0) {
		tls_free(t);
		return -1;
	}
	*out = t;
	return 0;
}

/* The library stays: it registers what runs at the process's end. */
void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->ctx)
		t->SSL_CTX_free(t->ctx);
	mem_free(t);
}

struct tls_session *tls_session_new(struct tls *t, int fd)
{
	struct tls_session *s = mem_new0(struct tls_session);

	s->tls = t;
	s->ssl = t->SSL_new(t->ctx);
	BUG_ON(!s->ssl || t->SSL_set_fd(s->ssl, fd) != 1); /* memory alone can fail here */
	t->SSL_set_accept_state(s->ssl);
	return s;
}

void tls_session_free(struct tls_session *s)
{
	if (!s)
		return;
	s->tls->SSL_free(s->ssl);
	mem_free(s);
}

static ssize_t result(struct tls_session *s, int rc)
{
	int why = s->tls->SSL_get_error(s->ssl, rc);

	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		s->wants_to_write = why == SSL_ERROR_WANT_WRITE;
		errno = EAGAIN;
	} else {
		errno = EPROTO;
	}
	return -1;
}

ssize_t tls_read(struct tls_session *s, void *to, size_t n)
{
	int rc;

	s->tls->ERR_clear_error();
	s->wants_to_write = false;
	rc = s->tls->SSL_read(s->ssl, to, (int)MIN(n, (size_t)INT_MAX));
	return rc > 0 ? rc : result(s, rc);
}

ssize_t tls_write(struct tls_session *s, const void *from, size_t n)
{
	int rc;

	s->tls->ERR_clear_error();
	s->wants_to_write = false;
	rc = s->tls->SSL_write(s->ssl, from, (int)MIN(n, (size_t)INT_MAX));
	return rc > 0 ? rc : result(s, rc);
}

bool tls_wants_to_write(const struct tls_session *s)
{
	return s->wants_to_write;
}
