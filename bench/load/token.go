package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

const tokenLife = 24 * time.Hour

// token is OpenIM's: a JWT, HS256.
func (t *Target) token(userID string, platformID int) string {
	now := time.Now()
	claims := fmt.Sprintf(`{"UserID":%q,"PlatformID":%d,"exp":%d,"iat":%d}`,
		userID, platformID, now.Add(tokenLife).Unix(), now.Unix())
	signed := encode(`{"alg":"HS256","typ":"JWT"}`) + "." + encode(claims)
	mac := hmac.New(sha256.New, []byte(t.secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(string(mac.Sum(nil)))
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
