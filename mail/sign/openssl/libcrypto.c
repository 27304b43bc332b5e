//go:build openssl

#include "libcrypto.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

// The functions that are used. Their types are those of the headers, so that the
// compiler checks each call.
#define FUNCTIONS(F) \
	F(OpenSSL_version_num) F(OpenSSL_version) \
	F(d2i_AutoPrivateKey) F(EVP_PKEY_free) F(EVP_sha256) \
	F(EVP_PKEY_CTX_new) F(EVP_PKEY_CTX_free) F(EVP_PKEY_sign_init) F(EVP_PKEY_sign) \
	F(EVP_PKEY_CTX_set_rsa_padding) F(EVP_PKEY_CTX_set_signature_md) \
	F(ERR_clear_error) F(ERR_get_error) F(ERR_error_string_n)

struct libcrypto {
#define FIELD(name) __typeof__(name) *name;
	FUNCTIONS(FIELD)
};

struct libcrypto_opened libcrypto_open(const uint8_t *name)
{
	const char *file = (const char *)name;
	struct libcrypto_opened o = {0};
	void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL) {
		snprintf(o.why, sizeof o.why, "%s", dlerror());
		return o;
	}
	struct libcrypto *lib = calloc(1, sizeof *lib);
	if (lib == NULL) {
		snprintf(o.why, sizeof o.why, "no memory");
		return o;
	}
#define FIND(name) \
	if ((lib->name = (__typeof__(name) *)dlsym(handle, #name)) == NULL) { \
		snprintf(o.why, sizeof o.why, "%s has no %s", file, #name); \
		free(lib); \
		return o; \
	}
	FUNCTIONS(FIND)
	if (lib->OpenSSL_version_num() < 0x30000000L) {
		snprintf(o.why, sizeof o.why, "%s: want OpenSSL 3", lib->OpenSSL_version(OPENSSL_VERSION));
		free(lib);
		return o;
	}
	o.lib = lib;
	return o;
}

const char *libcrypto_version(struct libcrypto *lib)
{
	return lib->OpenSSL_version(OPENSSL_VERSION);
}

EVP_PKEY *libcrypto_key(struct libcrypto *lib, const uint8_t *der, long size)
{
	lib->ERR_clear_error();
	return lib->d2i_AutoPrivateKey(NULL, &der, size);
}

void libcrypto_free(struct libcrypto *lib, EVP_PKEY *key)
{
	lib->EVP_PKEY_free(key);
}

struct libcrypto_signed libcrypto_sign(struct libcrypto *lib, EVP_PKEY *key,
	const uint8_t *digest, size_t digest_size, uint8_t *out, size_t out_size)
{
	struct libcrypto_signed s = {0};
	lib->ERR_clear_error();
	EVP_PKEY_CTX *ctx = lib->EVP_PKEY_CTX_new(key, NULL);
	size_t size = out_size;
	if (ctx != NULL && lib->EVP_PKEY_sign_init(ctx) == 1 &&
	    lib->EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
	    lib->EVP_PKEY_CTX_set_signature_md(ctx, lib->EVP_sha256()) == 1 &&
	    lib->EVP_PKEY_sign(ctx, out, &size, digest, digest_size) == 1) {
		s.size = size;
	} else {
		// The queue of errors belongs to the thread, which may change after this call.
		lib->ERR_error_string_n(lib->ERR_get_error(), s.why, sizeof s.why);
	}
	lib->EVP_PKEY_CTX_free(ctx);
	return s;
}
