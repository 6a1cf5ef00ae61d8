#include "wire/dbus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a hostile server may send, and what an annotation may say: a value that is taken can be written, and is
 * a valid body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct dbus_call call = { "a.b", "/a", "a.b", "C", "v" };
	auto_arena a = { 0 };
	auto_buf b = BUF(DBUS_MESSAGE_MAX);
	struct str bytes = { arena_strndup(&a, (const char *)data, size), size };
	struct dbus_address address;
	struct dbus_message m;
	struct dbus_writer w;
	struct dbus_value v;
	struct err e;
	size_t used;
	bool done;

	(void)dbus_auth_read(bytes, &used, &done, &e);
	(void)dbus_address_read(&a, bytes.p, &address, &e);
	if (dbus_message_read(&a, bytes, &m, &used, &e) == 0 && used)
		for (struct dbus_reader r = dbus_body(&m); *r.signature;) {
			struct dbus_reader in;
			const char *text;
			uint32_t n;

			if (dbus_read_u32(&r, &n, &e) < 0 && dbus_read_text(&r, &text, &e) < 0 &&
			    dbus_read_variant(&r, &in, &e) < 0)
				break;
		}
	if (dbus_value_parse(&a, bytes.p, &v, &e) < 0)
		return 0;
	dbus_write_begin(&w, &b, 1, &call);
	dbus_write_variant(&w, &v);
	if (dbus_write_end(&w, &e) == 0)
		BUG_ON(dbus_message_read(&a, buf_str(&b), &m, &used, &e) < 0 || used != b.len);
	return 0;
}
