#include "image/pull_http.h"

#include "base/clock.h"

#include <curl/curl.h>
#include <strings.h>

struct http {
	CURL *easy;
	char error[CURL_ERROR_SIZE];
};

/* What the callbacks of one request work on. */
struct exchange {
	struct arena *a;
	const struct http_request *r;
	CURL *easy;
	struct http_reply reply;
	struct buf body;
	size_t header_bytes;
	int64_t last_byte_ns;
	int64_t body_at;
	bool idle, sink_failed;
	struct err *e;
};

int http_global_init(struct err *e)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, ERR_SYSTEM, "libcurl cannot be initialised");
	return 0;
}

int http_new(struct arena *a, struct http **out, struct err *e)
{
	struct http *h = arena_new0(a, struct http);

	h->easy = curl_easy_init();
	if (!h->easy)
		return err_set(e, ERR_SYSTEM, "libcurl gives no handle");
	*out = h;
	return 0;
}

static void keep_text(struct exchange *x, char **to, struct str value)
{
	/* Several challenges in several headers are one list. */
	*to = *to && to == &x->reply.challenge ? arena_printf(x->a, "%s, %.*s", *to, STR_ARG(value)) :
						 str_dup(x->a, value);
}

static void keep_header(struct exchange *x, struct str name, struct str value)
{
	const struct {
		const char *name;
		char **to;
	} texts[] = {
		{ "Content-Type", &x->reply.content_type },
		{ "Docker-Content-Digest", &x->reply.digest },
		{ "WWW-Authenticate", &x->reply.challenge },
		{ "Location", &x->reply.location },
		{ "Content-Range", &x->reply.content_range },
	};
	const struct {
		const char *name;
		int64_t *to;
	} numbers[] = {
		{ "Content-Length", &x->reply.content_length },
		{ "Retry-After", &x->reply.retry_after_s },
	};
	struct err ignored;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (name.len == strlen(texts[i].name) && strncasecmp(name.p, texts[i].name, name.len) == 0)
			keep_text(x, texts[i].to, value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (name.len != strlen(numbers[i].name) ||
		    strncasecmp(name.p, numbers[i].name, name.len) != 0)
			continue;
		if (str_to_i64(value, numbers[i].to, &ignored) == 0)
			continue;
		/* Retry-After may be a date. */
		if (numbers[i].to == &x->reply.retry_after_s) {
			time_t at = curl_getdate(str_dup(x->a, value), NULL);

			*numbers[i].to = at == -1 ? -1 : MAX(0, at - clock_wall_ns() / NS_PER_S);
		}
	}
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	struct str value = { bytes, size * n }, name;

	x->last_byte_ns = clock_mono_ns();
	x->header_bytes += size * n;
	if (x->header_bytes > HTTP_HEADER_MAX)
		return 0;
	/* A new status line (100 Continue, a proxy's answer): what came before was not the reply. */
	if (str_starts(value, "HTTP/")) {
		x->reply = (struct http_reply){ .content_length = -1, .retry_after_s = -1 };
		return size * n;
	}
	name = str_cut(&value, ':');
	if (value.p)
		keep_header(x, name, str_trim(value));
	return size * n;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	struct err full;

	x->last_byte_ns = clock_mono_ns();
	n *= size;
	(void)curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &x->reply.status);
	if (x->r->sink && (x->reply.status == 200 || x->reply.status == 206)) {
		if (x->r->sink(x->r->sink_ctx, &x->reply, bytes, n, x->e) == 0)
			return n;
		x->sink_failed = true;
		return 0;
	}
	if (buf_add(&x->body, bytes, n, &full) < 0)
		x->reply.body_cut = true;
	return n;
}

static size_t on_upload(char *bytes, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	size_t got = 0, want = (size_t)MIN((int64_t)(size * n), x->r->body_size - x->body_at);

	x->last_byte_ns = clock_mono_ns();
	if (want && x->r->body(x->r->body_ctx, x->body_at, bytes, want, &got, x->e) < 0) {
		x->sink_failed = true;
		return CURL_READFUNC_ABORT;
	}
	x->body_at += (int64_t)got;
	return got;
}

/* A connection that had been kept open turned out dead: the body goes out once more. */
static int on_rewind(void *ctx, curl_off_t offset, int origin)
{
	struct exchange *x = ctx;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	x->body_at = offset;
	return CURL_SEEKFUNC_OK;
}

static int on_progress(void *ctx, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	struct exchange *x = ctx;

	(void)dltotal, (void)dlnow, (void)ultotal, (void)ulnow;
	x->idle = x->r->idle_ns && clock_mono_ns() - x->last_byte_ns > x->r->idle_ns;
	return x->idle;
}

static void set_blob(CURL *c, CURLoption option, struct str pem)
{
	struct curl_blob blob = { (void *)pem.p, pem.len, CURL_BLOB_NOCOPY };

	if (pem.p)
		(void)curl_easy_setopt(c, option, &blob);
}

static void set_tls(CURL *c, const struct http_tls *tls)
{
	(void)curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (!tls)
		return;
	set_blob(c, CURLOPT_CAINFO_BLOB, tls->ca);
	set_blob(c, CURLOPT_SSLCERT_BLOB, tls->cert);
	set_blob(c, CURLOPT_SSLKEY_BLOB, tls->key.p ? tls->key : tls->cert);
	if (tls->skip_verify) {
		(void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
		(void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static struct curl_slist *header_list(struct arena *a, const struct http_request *r)
{
	const struct json_pair *p = r->headers.p;
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < r->headers.count; i++)
		list = curl_slist_append(list, arena_printf(a, "%s: %s", p[i].key, p[i].value));
	if (r->accept)
		list = curl_slist_append(list, arena_printf(a, "Accept: %s", r->accept));
	if (r->content_type)
		list = curl_slist_append(list, arena_printf(a, "Content-Type: %s", r->content_type));
	if (r->body)
		list = curl_slist_append(list, "Expect:"); /* no wait for a 100 */
	if (r->authorization)
		list = curl_slist_append(list, arena_printf(a, "Authorization: %s", r->authorization));
	return list;
}

static void set_request(CURL *c, struct exchange *x, struct curl_slist *headers, struct arena *a)
{
	const struct http_request *r = x->r;

	(void)curl_easy_setopt(c, CURLOPT_URL, r->url);
	(void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c, CURLOPT_USERAGENT, "knarr/" KNARR_VERSION);
	(void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 262144L);
	(void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	(void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(r->connect_timeout_ns / NS_PER_MS));
	(void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	(void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	(void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
	(void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	if (streq(r->method, "HEAD"))
		(void)curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	if (streq(r->method, "POST"))
		(void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->form);
	if (r->body) {
		(void)curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		(void)curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_size);
		(void)curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
		(void)curl_easy_setopt(c, CURLOPT_READDATA, x);
		(void)curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_rewind);
		(void)curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
	}
	if (r->range_from > 0)
		(void)curl_easy_setopt(c, CURLOPT_RANGE,
				       arena_printf(a, "%lld-", (long long)r->range_from));
	set_tls(c, r->tls);
}

static int transport_error(const struct http *h, CURLcode code, const char *url, enum http_failure *failure,
			   struct err *e)
{
	const char *text = *h->error ? h->error : curl_easy_strerror(code);

	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_OPERATION_TIMEDOUT:
		*failure = HTTP_UNREACHABLE;
		break;
	case CURLE_SSL_CONNECT_ERROR:
		*failure = HTTP_NOT_TLS;
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		*failure = HTTP_REFUSED;
		break;
	default:
		*failure = HTTP_BROKEN;
	}
	return err_set(e, ERR_UNAVAILABLE, "%.300s: %s", url, text);
}

/* Without its query, which may hold a signature. */
static char *url_shown(struct arena *a, const char *url)
{
	return arena_strndup(a, url, strcspn(url, "?"));
}

int http_perform(struct http *h, struct arena *a, const struct http_request *r, struct http_reply *out,
		 enum http_failure *failure, struct err *e)
{
	struct exchange x = { .a = a, .r = r, .easy = h->easy, .body = BUF(HTTP_BODY_MAX), .e = e,
			      .reply = { .content_length = -1, .retry_after_s = -1 },
			      .last_byte_ns = clock_mono_ns() };
	struct curl_slist *headers = header_list(a, r);
	CURLcode code;

	curl_easy_reset(h->easy);
	*h->error = '\0';
	(void)curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->error);
	set_request(h->easy, &x, headers, a);
	code = curl_easy_perform(h->easy);
	(void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &x.reply.status);
	x.reply.body = (struct str){ arena_memdup(a, buf_text(&x.body), x.body.len + 1), x.body.len };
	buf_free(&x.body);
	curl_slist_free_all(headers);
	*failure = HTTP_OK;
	if (x.sink_failed) {
		*failure = HTTP_SINK;
		return -1;
	}
	if (x.idle) {
		*failure = HTTP_BROKEN;
		return err_set(e, ERR_TIMEOUT, "%.300s: nothing received for %lld ms", url_shown(a, r->url),
			       (long long)(r->idle_ns / NS_PER_MS));
	}
	if (code != CURLE_OK)
		return transport_error(h, code, url_shown(a, r->url), failure, e);
	*out = x.reply;
	return 0;
}
